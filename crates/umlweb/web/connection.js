// The connection to umlweb: requests with the token of the session, and WebSockets that connect again by themselves.

import { login } from "./login.js";

/** The session, once there is one: token, vm, master. */
export const session = { token: null, vm: null, master: false };

/** Answers of umlweb that are no success. */
export class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function fetchIt(method, path, body) {
  const headers = {};
  if (session.token) headers["x-umlweb-token"] = session.token;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin", redirect: "error" });
  } catch {
    throw new Refused(0, "The web interface does not answer.");
  }
  if (answer.ok) return answer;
  let text = answer.statusText;
  try { text = (await answer.json()).error ?? text; } catch { /* no JSON, no reason */ }
  throw new Refused(answer.status, text);
}

/** A request whose answer is a value. Without a session the user is asked to log in, and it is tried again. */
export async function ask(method, path, body) {
  return (await request(method, path, body)).json();
}

/** A request whose answer is a file. */
export async function download(path) {
  return (await request("GET", path)).blob();
}

async function request(method, path, body) {
  for (;;) {
    try {
      return await fetchIt(method, path, body);
    } catch (error) {
      if (error.status !== 401) throw error;
      await logIn();
    }
  }
}

let loggingIn = null;

/** A session: the one that the browser has, or a new one. One dialog serves all that need it. */
export function logIn() {
  loggingIn ??= begin().finally(() => { loggingIn = null; });
  return loggingIn;
}

async function begin() {
  try {
    Object.assign(session, await (await fetchIt("GET", "/api/session")).json());
    return;
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  session.token = null;
  await login(session.vm, async (vm, password) => {
    Object.assign(session, await (await fetchIt("POST", "/api/login", { vm, password })).json());
  });
}

/** Ends the session. */
export async function logOut() {
  await fetchIt("POST", "/api/logout", {}).catch(() => {});
  location.replace("/");
  location.reload();
}

/**
 * A WebSocket that connects again: `path()` gives its address each time; `on` has text(value), bytes(data), up(), down().
 */
export class Line {
  #path; #on; #socket = null; #wait = 250; #timer = null; #ended = false; #here = 0;

  constructor(path, on) {
    this.#path = path;
    this.#on = on;
    for (const event of ["pointermove", "keydown"]) document.addEventListener(event, this.#there);
    this.#connect();
  }

  #connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.#path()}`, ["umlweb", session.token]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => { this.#wait = 250; this.#on.up?.(); };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#on.text(JSON.parse(data));
      else this.#on.bytes(data);
    };
    socket.onclose = ({ code }) => {
      if (this.#ended) return;
      this.#on.down?.();
      if (code >= 4400 && code < 4401) return;
      this.#timer = setTimeout(() => this.#again(), this.#wait);
      this.#wait = Math.min(this.#wait * 2, 4000);
    };
  }

  async #again() {
    // A WebSocket does not tell why it was refused; a request does, and logs in if that is it.
    try {
      await logIn();
      if (!this.#ended) this.#connect();
    } catch {
      if (!this.#ended) this.#timer = setTimeout(() => this.#again(), this.#wait);
    }
  }

  /** Sends a value, or bytes; false if there is no connection. */
  send(what) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(what instanceof Uint8Array ? what : JSON.stringify(what));
    return true;
  }

  // The user is there; the session stays alive. Said once a minute at most.
  #there = () => {
    const now = Date.now();
    if (now - this.#here > 60000 && this.send("here")) this.#here = now;
  };

  /** Ends it. */
  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
    for (const event of ["pointermove", "keydown"]) document.removeEventListener(event, this.#there);
    this.#socket?.close();
  }
}
