// The list of the VMs, as they change.

import { Line } from "./connection.js";
import { duration, fill, h, say, size } from "./dom.js";

/** The share of a processor that a VM has used between two reports, in percent. */
export class Load {
  #before = null;
  see(cpuNs) {
    const now = performance.now();
    const before = this.#before;
    if (before && now - before.at < 500) return before.load;
    const load = before && cpuNs >= before.cpu ? (cpuNs - before.cpu) / ((now - before.at) * 10000) : null;
    this.#before = { at: now, cpu: cpuNs, load };
    return load;
  }
}

/** The state of a VM as a mark and a word. */
export function badge(vm) {
  const word = vm.state === "running" && vm.responding === false ? "not responding" : vm.state;
  return h("span", { class: "state", "data-state": word.replace(" ", "-") }, word);
}

/** The page. */
export function listPage() {
  const rows = new Map();
  const body = h("tbody");
  const count = h("p", { class: "count", role: "status" });
  const filter = h("input", { type: "search", id: "filter", placeholder: "Name or state", spellcheck: "false", autocapitalize: "none", oninput: () => apply() });

  function apply() {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const [name, row] of rows) {
      const fits = `${name.toLowerCase()} ${row.state}`.includes(wanted);
      row.element.hidden = !fits;
      if (fits) shown += 1;
    }
    say(count, rows.size === 0 ? "No monitor runs." : shown === rows.size ? `${rows.size} VM${rows.size === 1 ? "" : "s"}` : `${shown} of ${rows.size} VMs`);
  }

  function row(name) {
    const found = rows.get(name);
    if (found) return found;
    const cells = ["State", "Uptime", "Memory", "Processor", "Consoles"].map((label) => h("td", { "data-label": label }));
    const element = h("tr", {}, h("th", { scope: "row" }, h("a", { href: `#/vm/${name}` }, name)), cells);
    const made = { element, cells, load: new Load(), state: "", uptime: null };
    rows.set(name, made);
    const after = [...rows.keys()].sort().find((other) => other > name);
    body.insertBefore(element, after ? rows.get(after).element : null);
    return made;
  }

  function update(vm) {
    const it = row(vm.vm);
    const [state, uptime, memory, processor, consoles] = it.cells;
    it.state = vm.state;
    fill(state, badge(vm));
    state.title = vm.why ?? vm.fault ?? "";
    const runs = vm.uptime > 0;
    it.since = runs ? performance.now() - vm.uptime * 1000 : null;
    say(uptime, runs ? duration(vm.uptime) : "");
    say(memory, runs ? `${size(vm.mem_used)} of ${vm.mem_mb} MB` : "");
    const load = runs ? it.load.see(vm.cpu_ns) : null;
    say(processor, load === null ? "" : `${load < 10 ? load.toFixed(1) : Math.round(load)} %`);
    const names = (vm.channels ?? []).slice(0, 4);
    if (consoles.textContent !== names.join("")) fill(consoles, names.map((channel) => h("a", { href: `#/vm/${vm.vm}/${channel}`, class: "chip", "aria-label": `${channel} of ${vm.vm}` }, channel)));
    apply();
  }

  const line = new Line(() => "/socket/live", {
    text(said) {
      if (said.names) { said.names.forEach(row); apply(); }
      if (said.vm) update(said.vm);
      if (said.gone) { rows.get(said.gone)?.element.remove(); rows.delete(said.gone); apply(); }
    },
    bytes() {},
  });
  const content = [
    h("div", { class: "title" }, h("h1", {}, "Virtual machines"), count),
    h("div", { class: "search" }, h("label", { for: "filter" }, "Filter"), filter),
    h("table", { class: "vms" },
      h("thead", {}, h("tr", {}, ["Name", "State", "Uptime", "Memory", "Processor", "Consoles"].map((name) => h("th", { scope: "col" }, name)))),
      body),
  ];
  return { title: "VMs", content, end() { line.end(); } };
}
