// The pages: hostile text stays text, nothing is out of reach for the keyboard, narrow windows, or tools that read aloud.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { check, launch, login, main, master, open, order, shows, status, until } from "./lib.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await launch();
const PAGES = [["/", "Virtual machines"], ["/#/vm/vm1", "vm1"], ["/#/vm/vm1/con0", "con0"], ["/#/wall", "Wall"]];
const pages = [];

/** Every kind of markup that has become code somewhere, and what terminals have obeyed. */
const CORPUS = [
  "<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<svg onload=window.hit=1>", "\"><script>window.hit=1</script>",
  "javascript:window.hit=1", "${window.hit=1}", "{{constructor.constructor('window.hit=1')()}}", "<iframe srcdoc='<script>parent.hit=1</script>'>",
  "</title><script>window.hit=1</script>", "<a href=javascript:window.hit=1>x</a>", "<style>@import 'http://evil.example/'</style>", "&lt;script&gt;window.hit=1",
];

/** What `set` of the test sets. */
const MARKUP = "<img/src=x/onerror=window.hit=1>";

/** Nothing of the page is made of what others have written. */
async function harmless(page) {
  check(await page.evaluate(() => window.hit === undefined), `${page.url()}: text of others is code`);
  const found = await page.evaluate(() => document.querySelectorAll("#main script, #main img, #main iframe, #main svg, #main a:not([href^='#'])").length);
  check(found === 0, `${page.url()}: text of others is markup`);
}

await main({
  async login() {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open(browser, "/", { colorScheme });
      await page.evaluate(axe);
      await login(page, "vm1", master);
      await page.getByRole("heading", { name: "Virtual machines" }).waitFor();
      pages.push(page);
    }
  },
  async no_violation_of_accessibility() {
    for (const page of pages) {
      for (const [path, heading] of PAGES) {
        await page.goto(new URL(path, page.url()).href);
        await page.getByRole("heading", { name: heading }).first().waitFor();
        if (path === "/#/vm/vm1") await page.getByRole("heading", { name: "Consoles" }).waitFor();
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run());
        check(violations.length === 0, `${path}: ${JSON.stringify(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), null, 1)}`);
      }
    }
  },
  async narrow_windows() {
    const [page] = pages;
    await page.setViewportSize({ width: 320, height: 640 });
    for (const [path, heading] of PAGES) {
      await page.goto(new URL(path, page.url()).href);
      await page.getByRole("heading", { name: heading }).first().waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      check(wide <= 320, `${path} is ${wide} pixels wide`);
    }
    await page.setViewportSize({ width: 1100, height: 720 });
  },
  async keyboard_alone() {
    const [page] = pages;
    await page.goto(new URL("/", page.url()).href);
    await page.getByRole("link", { name: "vm1", exact: true }).waitFor();
    const focused = () => page.evaluate(() => document.activeElement.textContent);
    const reach = (wanted) => until(`TAB reaches ${wanted}`, async () => { await page.keyboard.press("Tab"); return (await focused()) === wanted; });
    await reach("vm1");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "vm1" }).waitFor();
    await reach("con0");
    await page.keyboard.press("Enter");
    await status(page, "watching");
    await reach("Write");
    await page.keyboard.press("Enter");
    await status(page, "writing");
    await until("the focus is in the terminal", () => page.evaluate(() => document.activeElement.closest(".terminal") !== null));
    await page.keyboard.press("Control+]");
    await until("CTRL-] leaves it", async () => (await focused()) === "Only watch");
    await page.evaluate(() => document.querySelector(".terminal").terminal.focus());
  },
  async hostile_text_stays_text() {
    const [page] = pages;
    await page.bringToFront();
    for (const text of CORPUS) {
      // The fake kernel returns what is typed.
      await page.keyboard.type(`${text}\n`);
      await shows(page, text);
    }
    const title = await page.title();
    await page.keyboard.type("\x1b]0;<b>title</b>\x07\x1b]52;c;aGl0\x07\x1b]8;;javascript:window.hit=1\x07link\x1b]8;;\x07after\n");
    await shows(page, "after");
    check(await page.title() === title, "a guest has set the title");
    for (const [path, heading] of PAGES) {
      await page.goto(new URL(path, page.url()).href);
      await page.getByRole("heading", { name: heading }).first().waitFor();
      await page.waitForTimeout(1500);
      await harmless(page);
    }
  },
  async hostile_parameters_stay_text() {
    const [page] = pages;
    await page.goto(new URL("/#/vm/vm1", page.url()).href);
    await page.getByRole("heading", { name: "Consoles" }).waitFor();
    await order("set");
    await page.locator("summary").click();
    await page.getByRole("row").getByText(MARKUP).first().waitFor();
    await harmless(page);
  },
  async hostile_values_stay_text() {
    // A monitor that somebody has taken over tells what it likes: every text of what it says is replaced.
    let next = 0;
    const spoil = (value) => {
      if (typeof value === "string") return CORPUS[next++ % CORPUS.length];
      if (Array.isArray(value)) return value.map(spoil);
      return value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, it]) => [name, spoil(it)])) : value;
    };
    const page = await open(browser, "/");
    await page.routeWebSocket(/\/socket\//, (socket) => {
      const server = socket.connectToServer();
      server.onMessage((message) => socket.send(typeof message === "string" ? JSON.stringify(spoil(JSON.parse(message))) : message));
    });
    await page.reload();
    await login(page, "vm1", master);
    for (const path of ["/#/", "/#/vm/vm1", "/#/vm/vm1/con0", "/#/wall"]) {
      await page.goto(new URL(path, page.url()).href);
      await page.locator("#main").getByText("window.hit=1").first().waitFor();
      await page.waitForTimeout(1500);
      await harmless(page);
    }
    check(next > 100, `${next} texts`);
    await page.context().close();
  },
  async the_wall_shows_screens() {
    const [page] = pages;
    await page.goto(new URL("/#/wall", page.url()).href);
    await until("the tile has text", async () => (await page.locator(".tile pre").first().textContent()).includes("hit=1"));
  },
  async the_list_is_live() {
    const [page, other] = pages;
    await page.goto(new URL("/", page.url()).href);
    await page.getByRole("row", { name: /^vm1/ }).locator(".state[data-state=running]").waitFor();
    await other.goto(new URL("/#/vm/vm1", other.url()).href);
    await other.getByRole("button", { name: "Kill" }).click();
    await other.getByRole("button", { name: "Cancel" }).click();
    await other.getByRole("button", { name: "Kill" }).click();
    await other.getByRole("dialog").getByRole("button", { name: "Kill" }).click();
    await page.getByRole("row", { name: /^vm1/ }).locator(".state[data-state=inactive]").waitFor();
    await page.getByLabel("Filter").fill("nothing like it");
    check(!await page.getByRole("link", { name: "vm1", exact: true }).isVisible(), "the filter shows it");
  },
});
