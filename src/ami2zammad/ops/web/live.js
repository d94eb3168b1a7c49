"use strict";

// Returns an element. What comes from outside goes in as text: it never becomes markup.
function element(name, attributes, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...content.filter((one) => one !== null && one !== ""));
  return made;
}

function foreignText(text) {
  return element("bdi", null, text);
}

function table(caption, headings, rows, lean) {
  const head = headings.map((heading) => element("th", { role: "columnheader", scope: "col" }, heading));
  const body = rows.map((row) =>
    element("tr", { role: "row" },
      ...row.map((cell, index) => element("td", { role: "cell", "data-label": headings[index] }, cell))));
  return element("table", { role: "table", class: lean ? "lean" : "cards-on-phones" },
    element("caption", { class: "unseen" }, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
    element("tbody", { role: "rowgroup" }, ...body));
}

function duration(seconds) {
  const whole = Math.max(Math.floor(seconds), 0);
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([count]) => count > 0);
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return first < 0 ? "0 s" : shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

function latency(seconds) {
  const milliseconds = Math.round(seconds * 1000);
  if (milliseconds < 1000) return `${milliseconds} ms`;
  if (milliseconds >= 60000) return duration(seconds);
  const tenths = Math.floor(milliseconds / 100);
  return `${Math.floor(tenths / 10)}.${tenths % 10} s`;
}

// Makes `old` like `fresh` and leaves alone what is the same, so that a selection or the focus stays where it is.
function adapt(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  before.slice(after.length).forEach((surplus) => surplus.remove());
  after.forEach((child, index) => (index < before.length ? adapt(before[index], child) : old.append(child)));
}

// Fetches `url` every `seconds` while somebody looks, and shows what `render` makes of it; `silence` says that there is
// no answer. `atOnce`: the page came without content.
function follow(url, seconds, render, silence, atOnce = false) {
  const page = document.getElementById("page");
  const offline = document.getElementById("offline");
  async function look() {
    try {
      const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!response.ok) throw new Error(response.statusText);
      const fresh = render(await response.json());
      adapt(page, fresh);
      document.body.classList.remove("stale");
      offline.hidden = true;
    } catch {
      if (offline.hidden) {
        offline.replaceChildren(element("span", null, silence));
        offline.hidden = false;
      }
      document.body.classList.add("stale");
    }
  }
  async function goOn() {
    if (!document.hidden) await look();
    setTimeout(goOn, seconds * 1000);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  setTimeout(goOn, atOnce ? 0 : seconds * 1000);
}
