// What `cargo xtask bench web` measures in a browser: the way of a key to its echo, and a wall of many VMs.

import { launch, login, main, master, open, order, status, until, write } from "./lib.mjs";

const [tiles] = process.argv.slice(2).map(Number);
const KEYS = 100;
const browser = await launch();
let page;

/** In the page: notes when a key goes down, and when the terminal has next been drawn. */
function watch() {
  const { terminal } = document.querySelector(".terminal");
  const taken = [];
  let begun = null;
  document.addEventListener("keydown", () => { begun = performance.now(); }, true);
  terminal.onRender(() => {
    if (begun !== null) taken.push(performance.now() - begun);
    begun = null;
  });
  window.taken = taken;
}

await main({
  async login() {
    page = await open(browser, "/#/vm/vm1/con0");
    await login(page, "vm1", master);
    await status(page, "watching");
    await write(page);
  },
  async echo() {
    await page.evaluate(watch);
    for (let key = 1; key <= KEYS; key += 1) {
      await page.keyboard.press(key % 60 ? "x" : "Enter");
      await until("the echo is drawn", () => page.evaluate((count) => window.taken.length >= count, key));
      await page.waitForTimeout(20);
    }
    const taken = (await page.evaluate(() => window.taken)).sort((a, b) => a - b);
    await order(`echo ${taken[Math.floor(taken.length / 2)]}`);
  },
  async wall() {
    await page.setViewportSize({ width: 1600, height: 12000 });
    await page.goto(new URL("/#/wall", page.url()).href);
    const filled = () => page.locator(".tile pre:not(:empty)").count();
    await until("all tiles are there", async () => (await filled()) === tiles, 3).catch(async (error) => {
      throw new Error(`${error.message}: ${await filled()} of ${tiles}`);
    });
    await order("wall");
  },
});
