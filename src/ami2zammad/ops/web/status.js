// The same page as page.py makes, of the same report; a test compares the two.
const STAGES = { arriving: ["arriving", "badge"], ringing: ["ringing", "badge busy"], answered: ["in call", "badge good"] };
const KINDS = { newCall: "new call", answer: "answer", hangup: "hangup" };
const PARTS = { bridge: "The bridge", asterisk: "Asterisk", zammad: "Zammad", outbox: "The outbox" };
const IN_A_SENTENCE = { bridge: "bridge", asterisk: "Asterisk", zammad: "Zammad", outbox: "outbox" };

const number = (value) => value.toLocaleString("en-US");
const noWrap = (content) => element("span", { class: "nowrap" }, content);
const phone = (content) => element("span", { class: "number" }, foreignText(content));
const badge = (look, text) => element("span", { class: `badge ${look}` }, text);
const callId = (of) => element("span", { class: "mono quiet" }, foreignText(of.call_id));
const ago = (of) => element("time", { datetime: of.time, class: "nowrap" }, `${duration(of.seconds)} ago`);

function renderStatus(report) {
  return element("div", { id: "page" },
    element("header", { class: "top" },
      element("div", { class: "brand" },
        element("h1", null, "ami2zammad"),
        report.instance ? element("span", { class: "quiet" }, foreignText(report.instance)) : null),
      element("p", { class: report.ready ? "badge good" : "badge bad", role: "status" },
        report.ready ? "All is well"
          : `Not working: ${report.faults.map(({ part }) => IN_A_SENTENCE[part]).join(", ")}`)),
    element("main", null,
      element("h2", { class: "unseen" }, "Connections"),
      ...report.faults.map(fault),
      element("div", { class: "cards" }, asterisk(report.asterisk), zammad(report.zammad), outbox(report.outbox)),
      calls(report), failures(report), deliveries(report)),
    element("footer", null,
      element("span", null, `Version ${report.version}`),
      element("span", null, `Running for ${duration(report.uptime_seconds)}`),
      element("span", null, `As of ${report.time.slice(11, 19)} UTC`),
      element("a", { href: "status.json" }, "status.json"),
      element("a", { href: "metrics" }, "metrics")));
}

function fault({ part, problem, remedy }) {
  return element("div", { class: "fault" },
    element("h3", null, PARTS[part]),
    element("p", null, foreignText(problem)),
    remedy ? element("p", { class: "remedy" }, foreignText(remedy)) : null);
}

function card(heading, subline, state, facts) {
  return element("article", { class: "panel" },
    element("div", { class: "card-head" }, element("h3", null, heading), state),
    element("p", { class: "address" }, subline),
    element("dl", null, ...facts.flatMap(([name, value]) => [element("dt", null, name), element("dd", null, value)])));
}

function asterisk({ connected, address, seconds, signals, reconnects }) {
  return card("Asterisk", foreignText(address), connected ? badge("good", "connected") : badge("bad", "not connected"), [
    ["Connected for", connected ? duration(seconds) : "–"],
    ["Events", number(signals)],
    ["Reconnects", number(reconnects)],
  ]);
}

function zammad({ reachable, address, seconds }) {
  return card("Zammad", foreignText(address), reachable ? badge("good", "reachable") : badge("bad", "nothing goes through"), [
    ["Last delivery", seconds === null ? "none yet" : `${duration(seconds)} ago`],
  ]);
}

function outbox({ durable, waiting, oldest_seconds: oldest, dead_letters: setAside, problem }) {
  const calm = waiting ? badge("busy", `${number(waiting)} waiting`) : badge("good", "empty");
  return card("Outbox", durable ? "Kept on disk" : "Kept in memory only", problem ? badge("bad", "in trouble") : calm, [
    ["Waiting", number(waiting)],
    ["Oldest", oldest === null ? "–" : duration(oldest)],
    ["Set aside", setAside ? badge("busy", number(setAside)) : "0"],
  ]);
}

function section(heading, count, empty, headings, rows, lean = false) {
  return element("section", { class: "panel" },
    element("h2", null, `${heading} `, count ? element("span", { class: "count" }, count) : null),
    rows.length ? table(heading, headings, rows, lean) : element("p", { class: "quiet" }, empty));
}

function calls({ calls: listed, live_calls: count }) {
  const rows = listed.map((call) => {
    const [stage, look] = STAGES[call.state];
    return [
      badge(`plain ${call.direction}`, call.direction),
      phone(call.from),
      phone(call.to),
      who(call),
      call.queue ? foreignText(call.queue) : null,
      element("span", { class: look }, stage),
      call.seconds === null ? null : noWrap(duration(call.seconds)),
      callId(call),
    ];
  });
  const told = count === listed.length ? number(count) : `${number(count)}, the latest ${listed.length} of them`;
  return section("Live calls", told, "Nobody is calling.",
    ["Direction", "From", "To", "Who", "Queue", "State", "For", "Call"], rows);
}

function who({ users, more_users: more }) {
  const parts = users.flatMap((user) => [", ", foreignText(user)]).slice(1);
  if (more) parts.push(` and ${more} more`);
  return parts.length ? element("span", null, ...parts) : null;
}

function failures({ failures: listed }) {
  return section("Latest failures", "", "None since the start.",
    ["When", "Event", "Reason", "Then", "Times", "Call"],
    listed.map((failure) => [
      ago(failure),
      KINDS[failure.kind] || failure.kind,
      element("span", null, foreignText(failure.reason)),
      failure.refused ? badge("bad", "given up") : badge("busy", "tried again"),
      number(failure.times),
      callId(failure),
    ]));
}

function deliveries({ deliveries: listed }) {
  return section("Latest deliveries", "", "None since the start.",
    ["When", "Event", "Took", "Call"],
    listed.map((delivery) => [
      ago(delivery),
      noWrap(KINDS[delivery.kind] || delivery.kind),
      noWrap(latency(delivery.latency_seconds)),
      callId(delivery),
    ]), true);
}

follow("status.json", 2, renderStatus, "The bridge does not answer any more. This is how it was.");
