// The caller log as an agent sees it, and below it what was asked of the endpoint.
const LOOKS = {
  ringing: "badge busy", "in call": "badge good", answered: "badge good plain", voicemail: "badge plain",
  missed: "badge bad plain", "passed on": "badge plain",
};

const badge = (look, text) => element("span", { class: look }, text);
const seconds = (value) => (value === null ? null : element("span", { class: "nowrap" }, duration(value)));
const mono = (text) => element("span", { class: "mono quiet" }, foreignText(text));
const phone = (text) => element("span", { class: "number" }, foreignText(text));

function renderLog({ url, count, rows, requests }) {
  const live = rows.filter(({ state }) => state === "ringing" || state === "in call").length;
  return element("div", { id: "page" },
    element("header", { class: "top" },
      element("div", { class: "brand" },
        element("h1", null, "Zammad stand-in"),
        element("span", { class: "quiet" }, "caller log as an agent sees it")),
      element("p", { class: live ? "badge busy" : "badge good", role: "status" },
        live ? `${live} live ${live === 1 ? "call" : "calls"}` : "waiting for calls")),
    element("main", null,
      element("section", { class: "panel" },
        element("h2", null, "Settings of ami2zammad that lead here"),
        element("pre", null, element("code", { tabindex: "0" }, `[zammad]\nurl = "${url}"`))),
      callerLog(count, rows),
      requestLog(requests)));
}

function section(heading, count, content) {
  return element("section", { class: "panel" },
    element("h2", null, `${heading} `, count ? element("span", { class: "count" }, count) : null), content);
}

function callerLog(count, rows) {
  const told = count > rows.length ? `${count}, the latest ${rows.length} of them` : String(count || "");
  if (!rows.length) {
    return section("Caller log", told,
      element("p", { class: "quiet" }, "No calls yet. Start ami2zammad with the settings above, and call somebody."));
  }
  const headings = ["Direction", "From", "To", "Who", "Queue", "State", "Cause", "Waited", "Talked", "Call"];
  return section("Caller log", told, table("Caller log", headings, rows.map((row) => [
    badge(`badge plain ${row.direction === "out" ? "out" : "in"}`, row.direction),
    named(row.from, row.from_name),
    phone(row.to),
    row.who ? foreignText(row.who) : null,
    row.queue ? foreignText(row.queue) : null,
    element("span", null, badge(LOOKS[row.state], row.state), row.to_do ? " " : null,
      row.to_do ? badge("badge busy plain", "to do") : null),
    row.cause ? cause(row.cause) : null,
    seconds(row.waited),
    seconds(row.talked),
    mono(row.call_id),
  ])));
}

function named(number, name) {
  if (!name) return phone(number);
  return element("span", null, phone(number), element("span", { class: "line quiet" }, foreignText(name)));
}

// Zammad's words for a cause are short; whatever else comes must not make the table wide.
function cause(text) {
  return element("span", text.length < 20 ? { class: "nowrap" } : null, foreignText(text));
}

function requestLog(requests) {
  if (!requests.length) return null;
  return section("Latest requests", "", table("Latest requests", ["When", "Event", "Answer", "Call"],
    requests.map(({ seconds: ago, event, status, call_id: call }) => [
      element("span", { class: "nowrap" }, `${duration(ago)} ago`),
      foreignText(event || "–"),
      badge(status === 200 ? "badge good plain" : "badge bad plain", status ? String(status) : "none"),
      mono(call),
    ]), true));
}

follow("log.json", 1, renderLog, "The stand-in does not answer any more. This is how it was.", true);
