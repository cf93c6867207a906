// What the scripts share: a browser, orders to the test that runs the script, and what a user would do.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

export const address = process.env.UMLWEB;
export const master = process.env.UMLWEB_MASTER;
/** What is shown when a step fails. */
const opened = [];
const PATIENCE = Number(process.env.UMLWEB_PATIENCE ?? 60000);

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the test do something outside of the browser. */
export async function order(word) {
  console.log(`@${word}`);
  await answers.next();
}

/** A browser. Root cannot have its sandbox. */
export function launch(args = []) {
  return chromium.launch({ executablePath: process.env.UMLWEB_CHROMIUM, chromiumSandbox: false, args });
}

/** A page that fails the script when it reports an error, or something that the policy forbids. */
export async function open(browser, path = "/", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  opened.push(page);
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => fail(`the page reports: ${error.stack}`));
  page.on("console", (message) => {
    // What umlweb refuses, and a server that is away, is no fault of the page.
    if (message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(message.text())) fail(`the page reports: ${message.text()}`);
  });
  await page.goto(address + path);
  return page;
}

/** Ends the script. */
export function fail(text) {
  console.error(text);
  process.exit(1);
}

export function check(holds, text) {
  if (!holds) throw new Error(text);
}

/** Waits until the function gives something. */
export async function until(what, get, times = 1) {
  const end = Date.now() + PATIENCE * times;
  let last;
  while (Date.now() < end) {
    try {
      last = await get();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: not in time (${last})`);
}

/** Logs in at the dialog. */
export async function login(page, vm, password) {
  await page.getByLabel("Virtual machine").fill(vm);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
}

/** The text of the terminal, with what has scrolled out of it. */
export function terminal(page) {
  return page.evaluate(() => {
    const buffer = document.querySelector(".terminal").terminal.buffer.active;
    const lines = [];
    for (let row = 0; row < buffer.length; row += 1) lines.push(buffer.getLine(row).translateToString(true));
    return lines.join("\n");
  });
}

export function shows(page, text) {
  return until(`the console shows ${text}`, async () => (await terminal(page)).includes(text));
}

/** The last lines of the terminal, which takes less than all of it, and so disturbs less. */
export function end(page) {
  return page.evaluate(() => {
    const buffer = document.querySelector(".terminal").terminal.buffer.active;
    const lines = [];
    for (let row = Math.max(0, buffer.baseY); row < buffer.length; row += 1) lines.push(buffer.getLine(row).translateToString(true));
    return lines.join("\n");
  });
}

/** A shell of root waits for a command. */
export function prompt(page) {
  return until("the shell is there", async () => (await terminal(page)).trimEnd().endsWith("#"));
}

export function status(page, text) {
  return until(`the status is ${text}`, async () => (await page.locator(".status").first().textContent()).startsWith(text));
}

/** Gets the right to write. */
export async function write(page, name = "Write") {
  await page.getByRole("button", { name, exact: true }).click();
  await status(page, "writing");
}

/** Types a line. */
export async function type(page, text) {
  await page.keyboard.type(`${text}\n`);
}

/** Runs the script's steps, and says which one fails; they are all, unless more follow. */
export async function main(steps, all = true) {
  let done = "";
  try {
    for (const [name, step] of Object.entries(steps)) {
      done = name;
      const begun = Date.now();
      await step();
      console.log(`${name}: ${Date.now() - begun} ms`);
    }
  } catch (error) {
    for (const page of opened.filter((it) => !it.isClosed())) {
      const text = await page.locator("body").innerText({ timeout: 2000 }).catch(() => "");
      const shown = await terminal(page).catch(() => "");
      console.log(`${page.url()}\n${text.slice(0, 1000)}\n${shown.trimEnd().split("\n").slice(-20).join("\n")}`);
    }
    fail(`${done}: ${error.stack}`);
  }
  if (all) process.exit(0);
}
