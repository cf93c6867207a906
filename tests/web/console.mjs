// A real guest in the browser: it boots, is typed to, painted by vi, resized, flooded, and outlives all around it.

import { check, end, launch, login, main, master, open, order, prompt, shows, status, terminal, type, until, write } from "./lib.mjs";

const browser = await launch();
let page;

await main({
  async login() {
    page = await open(browser);
    await login(page, "vm1", "wrong");
    await page.getByRole("alert").getByText("the password is wrong").waitFor();
    await login(page, "vm1", "secret of vm1");
    await page.getByRole("heading", { name: "vm1" }).waitFor();
  },
  async start() {
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.getByRole("link", { name: "con1" }).click();
    await status(page, "watching");
    await prompt(page);
  },
  async watchers_type_nothing() {
    await type(page, "echo watched-$((6*7))");
    await write(page);
    await type(page, "echo typed-$((6*7))");
    await shows(page, "typed-42");
    check(!(await terminal(page)).includes("watched-42"), "a watcher has typed");
  },
  async resize() {
    const columns = () => page.evaluate(() => document.querySelector(".terminal").terminal.cols);
    const before = await columns();
    await page.setViewportSize({ width: 700, height: 500 });
    await until("the terminal is smaller", async () => await columns() < before);
    await type(page, "stty size");
    await shows(page, ` ${await columns()}\n`);
  },
  async vi() {
    await type(page, "vi /tmp/file");
    await shows(page, "~\n~\n~");
    await page.keyboard.type("ihello from vi");
    await page.keyboard.press("Escape");
    // What follows at once would be read as a key that sends ESC and more.
    await shows(page, "- /tmp/file");
    await type(page, ":wq");
    await type(page, "cat /tmp/file");
    await shows(page, "hello from vi\n");
  },
  async paste() {
    await type(page, "stty -echo; cat > /tmp/paste; stty echo; wc -c < /tmp/paste; echo pasted-$((6*7))");
    const lines = `${"0123456789abcdef".repeat(4)}\n`.repeat(3200);
    await page.evaluate((text) => document.querySelector(".terminal").terminal.paste(text), lines);
    await until("the paste is typed", async () => (await page.locator(".status").nth(1).textContent()) === "");
    await page.keyboard.press("Control+d");
    await shows(page, "pasted-42");
    await shows(page, `${lines.length}\n`);
  },
  async flood() {
    await type(page, "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 10000000; echo end-of-$((6*7))");
    await until("the flood has ended", async () => (await end(page)).includes("end-of-42"), 3);
  },
  async reload() {
    await page.reload();
    await shows(page, "end-of-42");
    await write(page);
  },
  async server_restart() {
    await order("restart-web");
    await login(page, "vm1", "secret of vm1");
    await until("it writes again", async () => (await page.locator(".status").first().textContent()).startsWith("writing"));
    await type(page, "echo after-$((6*7))");
    await shows(page, "after-42");
    check((await terminal(page)).includes("end-of-42"), "what was there before is gone");
    check((await terminal(page)).split("end-of-42").length === 2, "something is shown twice");
  },
  async take_over() {
    const other = await open(browser, "/#/vm/vm1/con1");
    await login(other, "vm1", "secret of vm1");
    await status(other, "watching");
    await shows(other, "after-42");
    await other.getByRole("button", { name: "Write", exact: true }).click();
    await write(other, "Take over");
    await status(page, "watching");
    await page.getByText("has taken over").waitFor();
    await type(other, "echo other-$((6*7))");
    await shows(page, "other-42");
    await other.context().close();
  },
  async reboot() {
    await until("the console is free", async () => {
      await page.getByRole("button", { name: /Write|Take over/ }).click();
      return (await page.locator(".status").first().textContent()).startsWith("writing");
    });
    await type(page, "echo going; reboot -f");
    await until("it boots again", async () => /going[^]*#$/.test((await terminal(page)).split("reboot -f").pop().trimEnd()));
    await type(page, "echo again-$((6*7))");
    await shows(page, "again-42");
  },
  async all_vms_with_the_master_password() {
    const all = await open(browser);
    await login(all, "vm1", master);
    await all.getByRole("link", { name: "vm1", exact: true }).waitFor();
    await all.locator(".state[data-state=running]").waitFor();
  },
});
