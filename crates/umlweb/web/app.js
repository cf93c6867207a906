// The pages, by the part of the address after `#`: the list, a VM, a console, the wall.

import "./styles.js";
import { Refused, logIn, logOut, session } from "./connection.js";
import { fill, h, notice } from "./dom.js";
import { consolePage } from "./console.js";
import { listPage } from "./list.js";
import { vmPage } from "./vm.js";
import { wallPage } from "./wall.js";

const NAME = "([A-Za-z0-9][A-Za-z0-9._-]{0,62})";
const PAGES = [
  [/^#?\/?$/, () => listPage()],
  [/^#\/wall$/, () => wallPage()],
  [new RegExp(`^#/vm/${NAME}$`), (vm) => vmPage(vm)],
  [new RegExp(`^#/vm/${NAME}/((?:con|ssl)[0-9]{1,2})$`), (vm, channel) => consolePage(vm, channel)],
];

const main = document.getElementById("main");
let leave = null;

function show() {
  leave?.();
  leave = null;
  document.body.className = "";
  const found = PAGES.map(([pattern, page]) => [pattern.exec(location.hash), page]).find(([match]) => match);
  if (!found) {
    document.title = "UMLMON";
    fill(main, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "All VMs")));
    return;
  }
  const [match, page] = found;
  const { title, content, end, kind } = page(...match.slice(1));
  document.title = title === "VMs" ? "UMLMON" : `${title} - UMLMON`;
  document.body.className = kind ?? "";
  fill(main, content);
  leave = end;
  bar();
}

function bar() {
  const link = (href, text) => h("a", { href, "aria-current": location.hash === href || (href === "#/" && !location.hash) ? "page" : null }, text);
  fill(document.getElementById("bar"),
    h("a", { href: "#/", class: "brand" }, "UMLMON"),
    h("nav", { "aria-label": "Pages" }, link("#/", "VMs"), link("#/wall", "Wall")),
    h("button", { type: "button", class: "quiet", onclick: logOut }, "Log out"));
}

document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

async function start() {
  for (;;) {
    try {
      await logIn();
      break;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      notice(error.message);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  if (!session.master && /^#?\/?$/.test(location.hash)) history.replaceState(null, "", `#/vm/${session.vm}`);
  window.addEventListener("hashchange", () => { show(); main.focus(); });
  show();
}

start();
