// The wall: the screens of all VMs. Only those that are visible are asked for.

import { Line } from "./connection.js";
import { fill, h, say } from "./dom.js";
import { badge } from "./list.js";

/** The width of a character, as a share of the size of its font. */
const ASPECT = 0.602;

/** The page. */
export function wallPage() {
  const tiles = new Map();
  const grid = h("div", { class: "wall" });
  const empty = h("p", { role: "status" });
  const seen = new Set();
  let timer = null;

  function subscribe() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const wanted = document.hidden ? [] : [...seen].filter((name) => tiles.get(name)?.channel).map((name) => [name, tiles.get(name).channel]);
      line.send({ tiles: wanted });
    }, 100);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target.dataset.vm);
      else seen.delete(target.dataset.vm);
    }
    subscribe();
  }, { rootMargin: "100px" });

  function tile(name) {
    const found = tiles.get(name);
    if (found) return found;
    const state = h("span", {});
    const screen = h("pre", { "aria-hidden": "true" });
    const element = h("a", { class: "tile", href: `#/vm/${name}` }, h("span", { class: "head" }, h("strong", {}, name), state), screen);
    element.dataset.vm = name;
    const made = { element, state, screen, channel: null };
    tiles.set(name, made);
    const after = [...tiles.keys()].sort().find((other) => other > name);
    grid.insertBefore(element, after ? tiles.get(after).element : null);
    observer.observe(element);
    say(empty, "");
    return made;
  }

  function update(vm) {
    const it = tile(vm.vm);
    fill(it.state, badge(vm));
    const channel = vm.channels?.[0] ?? null;
    if (channel !== it.channel) {
      it.channel = channel;
      it.element.setAttribute("href", channel ? `#/vm/${vm.vm}/${channel}` : `#/vm/${vm.vm}`);
      subscribe();
    }
  }

  function show({ vm, columns, rows }) {
    const { screen } = tile(vm);
    say(screen, rows.join("\n"));
    screen.style.fontSize = `${screen.clientWidth / columns / ASPECT}px`;
  }

  const line = new Line(() => "/socket/live", {
    up: subscribe,
    text(said) {
      if (said.names) { said.names.forEach(tile); if (said.names.length === 0) say(empty, "No monitor runs."); }
      if (said.vm) update(said.vm);
      if (said.tile) show(said.tile);
      if (said.gone) { tiles.get(said.gone)?.element.remove(); tiles.delete(said.gone); seen.delete(said.gone); }
    },
    bytes() {},
  });
  document.addEventListener("visibilitychange", subscribe);
  return { title: "Wall", content: [h("h1", {}, "Wall"), empty, grid], end() {
    clearTimeout(timer);
    observer.disconnect();
    line.end();
    document.removeEventListener("visibilitychange", subscribe);
  } };
}
