// A console. It is watched first; writing begins, or takes over, when the user says so.

import { Line, download } from "./connection.js";
import { h, notice, save, say } from "./dom.js";
import { find, fitting, open, visible } from "./terminal.js";

/** Bytes of one piece of input, and those that the guest has not taken. */
const PIECE = 4096;
const AHEAD = 65536;

/** Input on its way to the guest: no more than it takes. */
class Input {
  #queue = []; #sent = 0; #taken = 0; #waiting = 0;
  constructor(send, tell) { this.send = send; this.tell = tell; }

  type(bytes) {
    for (let at = 0; at < bytes.length; at += PIECE) this.#queue.push(bytes.subarray(at, at + PIECE));
    this.#waiting += bytes.length;
    this.#flow();
  }

  taken(total) { this.#taken = total; this.#flow(); }

  /** The connection is another one: it counts from the beginning. */
  reset() { this.#queue = []; this.#sent = 0; this.#taken = 0; this.#waiting = 0; this.tell(""); }

  #flow() {
    while (this.#queue.length > 0 && this.#sent - this.#taken + this.#queue[0].length <= AHEAD) {
      const piece = this.#queue[0];
      if (!this.send(piece)) break;
      this.#queue.shift();
      this.#sent += piece.length;
      this.#waiting -= piece.length;
    }
    const left = this.#waiting + this.#sent - this.#taken;
    this.tell(left > PIECE ? `${Math.ceil(left / 1024)} KB to be typed` : "");
  }
}

/** Output as it came, in the format of asciinema. */
class Recording {
  #lines; #begin = performance.now(); #decoder = new TextDecoder();
  constructor(terminal) {
    this.#lines = [JSON.stringify({ version: 2, width: terminal.cols, height: terminal.rows, timestamp: Math.floor(Date.now() / 1000) })];
  }
  add(data) { this.#lines.push(JSON.stringify([(performance.now() - this.#begin) / 1000, "o", this.#decoder.decode(data, { stream: true })])); }
  text() { return `${this.#lines.join("\n")}\n`; }
}

/** The page. */
export function consolePage(vm, channel) {
  const place = h("div", { class: "terminal" });
  const status = h("span", { class: "status", role: "status" });
  const typing = h("span", { class: "status" });
  const write = h("button", { type: "button", class: "primary", onclick: () => wish() }, "Write");
  const record = h("button", { type: "button", "aria-pressed": "false", onclick: () => toggleRecording() }, "Record");
  const words = h("input", { type: "search", "aria-label": "Search in the output", placeholder: "Search", spellcheck: "false", onkeydown: (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (!find(terminal, words.value, !event.shiftKey)) notice("Not found");
  } });
  let terminal, line, recording = null;
  let expected = null, former = 0, mode = "watch", busy = false, writer = false;
  const encoder = new TextEncoder();
  const input = new Input((piece) => writer && line.send(piece), (text) => say(typing, text));

  function tell(text) { say(status, text); }

  function wish() {
    mode = writer ? "watch" : busy ? "take" : "write";
    line.send({ mode });
    terminal.focus();
  }

  function show() {
    write.textContent = writer ? "Only watch" : busy ? "Take over" : "Write";
    write.className = writer ? "" : busy ? "danger" : "primary";
    terminal.options.disableStdin = !writer;
    terminal.options.cursorStyle = writer ? "block" : "underline";
  }

  function fit() {
    if (!writer) return;
    const size = fitting(terminal, place);
    if (!size) return;
    if (size.rows !== terminal.rows || size.columns !== terminal.cols) terminal.resize(size.columns, size.rows);
    line.send({ resize: [size.rows, size.columns] });
  }

  function opened(it) {
    former = it.end;
    input.reset();
    if (it.anew) {
      if (expected !== null) terminal.write("\r\n[the monitor has been started anew]\r\n");
      expected = it.from;
    }
    tell(mode === "watch" ? "watching" : "connected");
    if (mode !== "watch") line.send({ mode: "write" });
  }

  function screen(it) {
    if (!writer) terminal.resize(it.columns, it.rows);
    if (it.drawing) {
      terminal.write("\r\n".repeat(it.rows));
      terminal.write(it.drawing);
      expected = it.offset;
    }
  }

  /** The window of who has the right to write has another size, from here on in the output. */
  function size([rows, columns]) {
    terminal.write("", () => { if (!writer && (rows !== terminal.rows || columns !== terminal.cols)) terminal.resize(columns, rows); });
  }

  function state(it) {
    if (it["taken-by"] && writer && !it.writer) notice(`${it["taken-by"]} has taken over`);
    if (it.writer) busy = false;
    else if (it["taken-by"]) busy = true;
    if (!it.writer && it["taken-by"]) mode = "watch";
    const began = it.writer && !writer;
    writer = it.writer;
    show();
    if (began) fit();
    const doing = writer ? "writing; CTRL-] leaves" : "watching";
    tell(it.standstill ? `the guest takes no input: ${it.standstill}` : it.state === "running" ? doing : `${doing}; the VM is ${it.state}`);
  }

  function text(said) {
    if (said.opened) opened(said.opened);
    else if (said.screen) screen(said.screen);
    else if (said.size) size(said.size);
    else if (said.state) state(said);
    else if (said.lost) tell(`not connected: ${said.lost}`);
    else if (said.refused) { busy = said.busy; mode = "watch"; show(); notice(said.refused); }
    else if (said.took) notice(`taken over from ${said.took}`);
    else if (said["not-typed"]) notice(said["not-typed"]);
    else if (said.taken !== undefined) input.taken(said.taken);
  }

  function bytes(buffer) {
    const offset = Number(new DataView(buffer).getBigUint64(0));
    const data = new Uint8Array(buffer, 8);
    if (expected !== null && offset > expected) terminal.write(`\r\n[${offset - expected} bytes skipped]\r\n`);
    expected = offset + data.length;
    const end = expected;
    recording?.add(data);
    terminal.write(data, () => { place.dataset.offset = end; line.send({ ack: end }); });
  }

  function type(text) {
    // What the terminal answers to former output, nobody waits for any more; a watcher answers nothing.
    if (!writer || Number(place.dataset.offset ?? 0) < former) return;
    input.type(text);
  }

  function toggleRecording() {
    if (recording) {
      save(`${vm}-${channel}.cast`, [recording.text()], "application/x-asciicast");
      recording = null;
    } else {
      recording = new Recording(terminal);
      notice("Recording; a second click saves it");
    }
    record.setAttribute("aria-pressed", String(recording !== null));
  }

  async function log() {
    try {
      save(`${vm}-${channel}.log`, [await download(`/api/log?vm=${vm}&file=${channel}`)], "text/plain");
    } catch (error) {
      notice(`Log: ${error.message}`);
    }
  }

  const observer = new ResizeObserver(() => terminal && fit());
  const content = [
    h("div", { class: "tools" },
      h("h1", {}, h("a", { href: `#/vm/${vm}` }, vm), ` ${channel}`),
      status, typing,
      h("div", { class: "actions", role: "group", "aria-label": "Console" }, write,
        h("button", { type: "button", onclick: () => save(`${vm}-${channel}.txt`, [visible(terminal)], "text/plain") }, "Save text"),
        record, h("button", { type: "button", onclick: log }, "Log"), words)),
    place,
  ];
  queueMicrotask(() => {
    terminal = open(place);
    show();
    terminal.onData((data) => type(encoder.encode(data)));
    terminal.onBinary((data) => type(Uint8Array.from(data, (c) => c.charCodeAt(0))));
    line = new Line(() => `/socket/console?vm=${vm}&channel=${channel}${expected === null ? "" : `&offset=${expected}`}`, {
      text, bytes,
      down() { writer = false; show(); tell("connecting again"); },
    });
    observer.observe(place);
    // Tests, and whoever looks at the page, read the screen here.
    place.terminal = terminal;
    terminal.attachCustomKeyEventHandler((event) => {
      // As in umlwatch. Who only watches has no use for TAB in the terminal.
      if (event.ctrlKey && event.key === "]") {
        write.focus();
        return false;
      }
      return writer || event.key !== "Tab";
    });
  });
  return { title: `${channel} of ${vm}`, kind: "full", content, end() {
    observer.disconnect();
    line?.end();
    terminal?.dispose();
  } };
}
