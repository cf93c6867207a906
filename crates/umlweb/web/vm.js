// One VM: what it does, what it has, and orders for it.

import { Line, ask, download } from "./connection.js";
import { confirm, duration, fill, h, notice, save, say, size } from "./dom.js";
import { Load, badge } from "./list.js";

const EVENTS = 200;

const ORDERS = [
  ["start", "Start", (state) => state === "inactive"],
  ["ctrl-alt-del", "CTRL-ALT-DEL", (state) => state === "running"],
  ["suspend", "Suspend", (state) => state === "running"],
  ["continue", "Continue", (state) => state === "suspended"],
  ["kill", "Kill", (state) => ["starting", "running", "suspended", "stopping"].includes(state)],
];

/** A table with one row for each thing; cells are labelled for narrow windows. */
function table(caption, heads, rows) {
  if (rows.length === 0) return null;
  return h("section", {}, h("h2", {}, caption),
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map(([first, ...cells]) => h("tr", {}, h("th", { scope: "row" }, first),
        cells.map((cell, at) => h("td", { "data-label": heads[at + 1] }, cell)))))));
}

function consoles(vm, channels) {
  const who = (channel) => [channel.writer && `written by ${channel.writer.who}`, channel.watchers.length > 0 && `${channel.watchers.length} watching`]
    .filter(Boolean).join(", ");
  return table("Consoles", ["Console", "Size", "Output", "In use"], channels.filter((channel) => channel.open).map((channel) => [
    h("a", { href: `#/vm/${vm}/${channel.channel}` }, channel.channel),
    `${channel.columns} x ${channel.rows}`, size(channel.bytes), who(channel)]));
}

function disks(all) {
  return table("Disks", ["Disk", "File", "Size", "On the host", "Notes"], all.map((disk) => [
    disk.ubd, disk.file, disk.size ? size(disk.size) : "", size(disk.allocated),
    [disk.backing && `based on ${disk.backing}`, disk.read_only && "read-only", disk.note].filter(Boolean).join("; ")]));
}

function networks(all) {
  return table("Networks", ["Interface", "Configured", "In the guest", "Received", "Sent"], all.map((nic) => [
    nic.eth, nic.specification, nic.link ? `${nic.link.guest_if} ${nic.link.guest_addr} ${nic.link.open ? "" : "(down)"}`.trim() : nic.note,
    nic.link ? size(nic.link.received_bytes) : "", nic.link ? size(nic.link.sent_bytes) : ""]));
}

function settings(all, pending) {
  const next = new Map();
  for (const { param, value } of pending) next.set(param, [...next.get(param) ?? [], value]);
  const later = (param) => (next.get(param) ?? []).join(", ");
  const known = new Set(all.map(({ param }) => param));
  const rows = all.map(({ param, value, origin }) => [param, value, origin, later(param)]);
  for (const param of next.keys()) if (!known.has(param)) rows.push([param, "", "", later(param)]);
  return h("details", {}, h("summary", {}, h("h2", {}, "Configuration")),
    table("In effect", ["Parameter", "Value", "From", "From the next start on"], rows));
}

function facts(all, load) {
  const { short } = all;
  const runs = short.uptime > 0;
  return [
    runs && ["Uptime", duration(short.uptime)],
    runs && ["Memory", `${size(short.mem_used)} of ${short.mem_mb} MB`],
    runs && load !== null && ["Processor", `${load.toFixed(1)} %`],
    ["Kernel", all.kernel || "not running"],
    runs && all.reboots > 0 && ["Reboots", all.reboots],
    ["Last end", short.last_end],
    runs && ["Confined by", all.confined_by],
  ].filter(Boolean);
}

/** The page. */
export function vmPage(vm) {
  const state = h("span", {});
  const problem = h("p", { class: "problem", role: "status" });
  const orders = h("div", { class: "actions", role: "group", "aria-label": "Orders" });
  const list = h("dl", { class: "facts" });
  const details = h("div", {});
  const events = h("ul");
  const load = new Load();
  let numbers = new Set();
  let drawn = "";

  async function order(verb, label, button) {
    if (verb === "kill" && !await confirm(`Kill ${vm}?`, "Its kernel ends at once. What the guest has not written to its disks is lost.", "Kill")) return;
    button.disabled = true;
    try {
      await ask("POST", "/api/order", { vm, order: verb });
      notice(`${label}: done`);
    } catch (error) {
      notice(`${label}: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }
  const buttons = ORDERS.map(([verb, label, fits]) => {
    const button = h("button", { type: "button", class: verb === "kill" ? "danger" : verb === "start" ? "primary" : null, onclick: () => order(verb, label, button) }, label);
    return [button, fits];
  });
  fill(orders, buttons.map(([button]) => button));

  async function log(file) {
    try {
      save(`${vm}-${file}.log`, [await download(`/api/log?vm=${vm}&file=${file}`)], "text/plain");
    } catch (error) {
      notice(`Log: ${error.message}`);
    }
  }

  function logs(channels) {
    const names = ["monitor", ...channels.filter((channel) => channel.open).map((channel) => channel.channel)];
    return h("section", {}, h("h2", {}, "Logs"), h("div", { class: "actions" },
      names.map((name) => h("button", { type: "button", onclick: () => log(name) }, `Download ${name}`))));
  }

  function all(value) {
    fill(state, badge(value.short));
    say(problem, value.short.fault);
    for (const [button, fits] of buttons) button.hidden = !fits(value.short.state);
    fill(list, facts(value, load.see(value.short.cpu_ns)).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
    // Lists are drawn anew only if something has changed, so that the focus stays.
    const content = JSON.stringify([value.channels.map(({ bytes, ...rest }) => rest), value.disks, value.networks.length, value.settings, value.pending]);
    if (content !== drawn) {
      drawn = content;
      fill(details, consoles(vm, value.channels), disks(value.disks), networks(value.networks), logs(value.channels), settings(value.settings, value.pending));
    }
  }

  function event(it) {
    if (numbers.has(it.number)) return;
    numbers.add(it.number);
    const time = new Date(it.time_ms);
    events.prepend(h("li", {}, h("time", {}, time.toLocaleString()), " ", it.text));
    while (events.children.length > EVENTS) events.lastChild.remove();
  }

  const line = new Line(() => `/socket/live?vm=${vm}`, {
    up() { numbers = new Set(); fill(events); },
    text(said) {
      if (said.all) all(said.all);
      if (said.event) event(said.event);
      if (said.vm) {
        fill(state, badge(said.vm));
        say(problem, said.vm.why ?? "");
        for (const [button] of buttons) button.hidden = true;
      }
    },
    bytes() {},
  });
  const content = [
    h("div", { class: "title" }, h("h1", {}, vm), state),
    problem, orders, list, details,
    h("section", {}, h("h2", {}, "Events"), h("div", { class: "events", role: "log", tabindex: "0", "aria-label": "Events" }, events)),
  ];
  return { title: vm, content, end() { line.end(); } };
}
