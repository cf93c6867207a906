// A real guest in the browser: it boots, is typed to, painted by vi, resized, flooded, and outlives all around it.

import { check, end, launch, login, main, master, open, order, prompt, shows, status, terminal, type, until, write } from "./lib.mjs";

const browser = await launch();
let page;

const [megabytes] = process.argv.slice(2).map(Number);
/** The length of a line of the flood, and what follows its number. */
const LINE = 71;
const REST = ".".repeat(LINE - 9);

/** In the page: counts what the terminal is given and what is skipped, and keeps the beginning of each piece. */
function count() {
  const place = document.querySelector(".terminal");
  const begun = Number(place.dataset.offset);
  const counted = { begun, at: begun, shown: 0, gaps: 0, head: "", samples: [], held: [] };
  const write = place.terminal.write.bind(place.terminal);
  place.terminal.write = (data, done) => {
    if (data instanceof Uint8Array) {
      const text = new TextDecoder().decode(data);
      // The beginning, whole: it may come in any pieces.
      if (!counted.gaps && counted.head.length < 4000) counted.head += text;
      counted.samples.push([counted.at, text.slice(0, 100)]);
      counted.at += data.length;
      counted.shown += data.length;
    } else {
      const gap = /\[(\d+) bytes skipped\]/.exec(data);
      counted.at += Number(gap?.[1] ?? 0);
      counted.gaps += gap ? 1 : 0;
    }
    // While it is held, nothing is acknowledged, as by a browser that is too slow.
    write(data, () => (counted.held ? counted.held.push(done) : done?.()));
  };
  window.counted = counted;
}

/** How much the guest has written on con1. */
function written(page) {
  return page.evaluate(async () => {
    const { token } = await (await fetch("/api/session")).json();
    const { channels } = await (await fetch("/api/vm?vm=vm1", { headers: { "x-umlweb-token": token } })).json();
    return channels.find(({ channel }) => channel === "con1").bytes;
  });
}

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
    await page.evaluate(count);
    // Lines of 71 bytes, of which each says where it is.
    const lines = Math.floor(megabytes * 1e6 / LINE);
    const last = 1000000 + lines - 1;
    await type(page, `stty -echo; echo begin-$((6*7)); seq 1000000 ${last} | sed 's/$/${REST}/'; stty echo; echo end-of-$((6*7))`);
    const begun = (await page.evaluate(() => window.counted)).at;
    await until("the guest is far ahead", async () => await written(page) > begun + 2e6, 2);
    await page.evaluate(() => { const { held } = window.counted; window.counted.held = null; held.forEach((done) => done?.()); });
    await until("the flood has ended", async () => (await end(page)).includes("end-of-42"), megabytes / 5);
    check((await end(page)).includes(`\n${last}${REST}\nend-of-42\n`), `the last lines: ${await end(page)}`);
    const { begun: start, at, shown, gaps, head, samples } = await page.evaluate(() => window.counted);
    console.log(`flood: ${shown} of ${at} bytes in ${samples.length} pieces, ${gaps} gaps`);
    check(samples.length < (at - begun) / 200, "the pieces are too small");
    check(gaps > 0, "it has shown everything");
    check(head.includes("begin-42\r\n"), `it does not begin: ${head}`);
    const first = start + head.indexOf("begin-42\r\n") + 10;
    // What a gap does not tell, or tells wrongly, puts all that follows at another place.
    const within = samples.filter(([offset, text]) => offset > first && offset < first + LINE * (lines - 2) && text.length > 70);
    const bad = within.filter(([offset, text]) => {
      const line = Math.floor((offset - first) / LINE);
      const two = [0, 1].map((n) => `${1000000 + line + n}${REST}\r\n`).join("");
      return !two.slice((offset - first) % LINE).startsWith(text.slice(0, 70));
    });
    check(within.length > 3 && bad.length === 0, `not what is at these offsets: ${JSON.stringify(bad.slice(0, 3))}`);
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
  async monitor_killed() {
    await order("replace-monitor");
    await status(page, "writing");
    await type(page, "echo adopted-$((6*7))");
    await shows(page, "adopted-42");
    const all = await terminal(page);
    check(["after-42", "adopted-42"].every((text) => all.split(`\n${text}`).length === 2), "something is missing, or shown twice");
    check(!all.includes("anew"), "it is another VM");
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
    // Who watches sees what is written for the window of the writer.
    await other.setViewportSize({ width: 620, height: 420 });
    const size = (it) => it.evaluate(() => { const { cols, rows } = document.querySelector(".terminal").terminal; return `${cols}x${rows}`; });
    await until("the window is smaller", async () => await size(other) !== await size(page));
    await type(other, "stty size");
    await until("the watcher has the size of the writer", async () => await size(other) === await size(page));
    await other.context().close();
  },
  async reboot() {
    await until("the console is free", async () => {
      if ((await page.locator(".status").first().textContent()).startsWith("writing")) return true;
      // The answer to the click before may have taken the button away.
      await page.getByRole("button", { name: /Write|Take over/ }).click({ timeout: 1000 });
      return false;
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
