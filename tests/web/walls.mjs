// Pages of others, in a browser whose user has logged in, get nowhere.

import { createServer, request } from "node:http";
import { connect } from "node:net";
import { address, check, launch, login, main, open, until } from "./lib.mjs";

const browser = await launch(["--host-resolver-rules=MAP evil.example 127.0.0.1"]);
const here = new URL(address);
let page, cookie, token;

/** A request as no browser makes it; gives status and headers. */
function raw(path, headers = {}, method = "GET", body) {
  return new Promise((resolve, reject) => {
    const made = request({ host: "127.0.0.1", port: here.port, path, method, headers: { host: here.host, ...headers } }, (answer) => {
      answer.resume();
      resolve(answer);
    });
    made.on("upgrade", (answer, socket) => { socket.destroy(); resolve(answer); });
    made.on("error", reject);
    made.end(body);
  });
}

const upgrade = () => ({
  connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  "sec-websocket-protocol": `umlweb, ${token}`, cookie, origin: address,
});

/** A page of somebody else, on another port of the same name, which shares cookies with ours. */
async function hostile(html, host = "127.0.0.1") {
  const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(html));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const tab = await page.context().newPage();
  await tab.goto(`http://${host}:${server.address().port}/`);
  return { tab, end: () => { tab.close(); server.closeAllConnections(); server.close(); } };
}

await main({
  async login() {
    page = await open(browser);
    await login(page, "vm1", "secret of vm1");
    await page.getByRole("heading", { name: "vm1" }).waitFor();
    const [it] = await page.context().cookies();
    check(it.httpOnly && it.sameSite === "Strict" && it.path === "/", `the cookie: ${JSON.stringify(it)}`);
    cookie = `${it.name}=${it.value}`;
    token = await page.evaluate(async () => (await (await fetch("/api/session")).json()).token);
    check((await raw("/socket/live", upgrade())).statusCode === 101, "ours is not let in");
  },
  async a_page_of_another_origin_reads_nothing() {
    const { tab, end } = await hostile("<p>hello");
    const got = await tab.evaluate(async ([at]) => {
      const tries = [
        fetch(`${at}/api/session`, { credentials: "include" }),
        fetch(`${at}/api/session`, { credentials: "include", mode: "no-cors" }),
        fetch(`${at}/`, { credentials: "include", mode: "no-cors" }),
        import(`${at}/app.js`),
      ];
      const done = await Promise.allSettled(tries);
      return done.map(({ status, value }) => (status === "rejected" ? "" : value?.type === "opaque" ? "" : "read"));
    }, [address]);
    check(got.every((it) => it === ""), `read: ${got}`);
    end();
  },
  async a_page_of_another_origin_opens_no_websocket() {
    const { tab, end } = await hostile("<p>hello");
    const code = await tab.evaluate((at) => new Promise((resolve) => {
      const socket = new WebSocket(`${at.replace("http", "ws")}/socket/live`, ["umlweb", "0".repeat(64)]);
      socket.onopen = () => resolve("open");
      socket.onclose = () => resolve("closed");
    }), address);
    check(code === "closed", "a WebSocket is open");
    end();
    const stolen = await raw("/socket/live", { ...upgrade(), origin: "http://evil.example" });
    check(stolen.statusCode === 403, "with the token, from another origin");
    const none = upgrade();
    delete none.origin;
    check((await raw("/socket/live", none)).statusCode === 403, "without an origin");
  },
  async a_websocket_needs_the_token() {
    const wrong = await raw("/socket/console?vm=vm1&channel=con0", { ...upgrade(), "sec-websocket-protocol": `umlweb, ${"0".repeat(64)}` });
    check(wrong.statusCode === 403, "with a wrong token");
    const without = await raw("/socket/live", { ...upgrade(), cookie: "" });
    check(without.statusCode === 403, "without the cookie");
  },
  async a_form_of_another_page_does_nothing() {
    const form = `<form method=post enctype=text/plain action="${address}/api/order"><input name='{"vm":"vm1","order":"kill","x":"' value='"}'></form><script>document.forms[0].submit()</script>`;
    const { tab, end } = await hostile(form);
    await tab.getByText("only pages of this host may do this").waitFor();
    end();
    const headers = { cookie, origin: address, "content-type": "application/json" };
    const body = JSON.stringify({ vm: "vm1", order: "kill" });
    check((await raw("/api/order", headers, "POST", body)).statusCode === 403, "without the token of the session");
    check((await raw("/api/order", { ...headers, "x-umlweb-token": token, origin: "null" }, "POST", body)).statusCode === 403, "from a page without origin");
  },
  async nobody_frames_us() {
    const { tab, end } = await hostile(`<iframe src="${address}/"></iframe>`);
    await until("the frame is refused", async () => {
      const frame = tab.frames()[1];
      return frame && (frame.url().startsWith("chrome-error") || await frame.locator("#main").count() === 0);
    });
    end();
  },
  async a_rebound_name_is_not_ours() {
    const tab = await page.context().newPage();
    const answer = await tab.goto(`http://evil.example:${here.port}/`);
    check(answer.status() === 421, `status ${answer.status()}`);
    const got = await tab.evaluate(async () => (await fetch("/api/session")).status);
    check(got === 421, `status ${got}`);
    await tab.close();
  },
  async the_window_of_an_opener_is_out_of_reach() {
    const { tab, end } = await hostile("<p>hello");
    const [popup] = await Promise.all([tab.context().waitForEvent("page"), tab.evaluate((at) => { window.other = window.open(at); }, address)]);
    await popup.waitForLoadState();
    check(await tab.evaluate(() => window.other.closed), "it holds the window");
    await popup.close();
    end();
  },
  async headers_say_so() {
    const { headers } = await raw("/");
    for (const [name, wanted] of [
      ["content-security-policy", "default-src 'none'"], ["content-security-policy", "frame-ancestors 'none'"],
      ["cross-origin-opener-policy", "same-origin"], ["cross-origin-resource-policy", "same-origin"],
      ["x-content-type-options", "nosniff"], ["referrer-policy", "no-referrer"],
    ]) check(headers[name]?.includes(wanted), `${name}: ${headers[name]}`);
    check(!headers["access-control-allow-origin"], "others may read");
  },
  async strangers_leave_the_session_usable() {
    const all = [];
    for (let count = 0; count < 10000; count += 1) {
      const socket = connect(here.port, "127.0.0.1");
      socket.on("error", () => {});
      all.push(socket);
      if (count % 500 === 499) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const info = await page.evaluate(async (token) => (await fetch("/api/vm?vm=vm1", { headers: { "x-umlweb-token": token } })).status, token);
    check(info === 200, `status ${info}`);
    await page.reload();
    await page.getByRole("heading", { name: "vm1" }).waitFor();
    all.forEach((socket) => socket.destroy());
  },
  async what_is_no_request_is_refused() {
    const said = (text) => new Promise((resolve) => {
      const socket = connect(here.port, "127.0.0.1", () => socket.end(text));
      let all = "";
      socket.on("data", (data) => { all += data; });
      socket.on("close", () => resolve(all));
      socket.on("error", () => resolve(all));
    });
    for (const text of [
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET / HTTP/1.1\r\n x: y\r\n\r\n", "\x16\x03\x01\x00\x05hello\r\n\r\n",
      `GET / HTTP/1.1\r\nHost: ${here.host}\r\nA: ${"x".repeat(9000)}\r\n\r\n`,
    ]) {
      const answer = await said(text);
      check(/^HTTP\/1.1 4\d\d /.test(answer) && /connection: close/i.test(answer), `${JSON.stringify(text.slice(0, 40))}: ${answer.slice(0, 60)}`);
    }
  },
  async another_vm_is_out_of_reach() {
    const headers = { cookie, origin: address, "x-umlweb-token": token };
    check((await raw("/api/vm?vm=vm2", headers)).statusCode === 403, "its information");
    check((await raw("/api/vm?vm=..%2Fvm1", headers)).statusCode === 400, "a name that is none");
    check((await raw("/api/log?vm=vm1&file=..%2F..%2Fetc%2Fpasswd", headers)).statusCode === 400, "a log that is none");
  },
  async a_logout_ends_it() {
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Password").waitFor();
    check((await raw("/api/session", { cookie, "sec-fetch-site": "same-origin" })).statusCode === 401, "the cookie still opens it");
  },
});
