// TLS to browsers, with a certificate that the host has signed itself.

import { address, check, launch, login, main, open, shows, status, type, write } from "./lib.mjs";

const browser = await launch();
let page;

await main({
  async a_browser_is_warned() {
    const context = await browser.newContext();
    const refused = await (await context.newPage()).goto(address).catch((error) => error.message);
    check(/ERR_CERT_AUTHORITY_INVALID/.test(refused), `it says ${refused}`);
    await context.close();
  },
  async login() {
    page = await open(browser, "/", { ignoreHTTPSErrors: true });
    await login(page, "vm1", "secret of vm1");
    await page.getByRole("heading", { name: "vm1" }).waitFor();
    const [cookie] = await page.context().cookies();
    check(cookie.name === "__Host-umlweb" && cookie.secure && cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
    const given = await page.evaluate(() => window.isSecureContext && document.cookie);
    check(given === "", `a page reads ${given}`);
  },
  async console() {
    await page.getByRole("link", { name: "con1" }).click();
    await status(page, "watching");
    await write(page);
    await type(page, "echo through TLS");
    await shows(page, "echo through TLS");
  },
  async a_download() {
    const token = await page.evaluate(async () => (await (await fetch("/api/session")).json()).token);
    const log = await page.evaluate(async (given) => (await (await fetch("/api/log?vm=vm1&file=monitor", { headers: { "x-umlweb-token": given } })).text()), token);
    check(log.includes("vm1"), `the log: ${log.slice(0, 100)}`);
  },
});
