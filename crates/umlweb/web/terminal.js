// The terminal of a console: xterm.js, without what a guest could reach beyond its screen with.

import { Terminal } from "./vendor/xterm.mjs";

/** The palette of a Linux console, as far as it is legible. */
const THEME = {
  background: "#101418", foreground: "#d5dae0", cursor: "#d5dae0", selectionBackground: "#3d5a80",
  black: "#101418", red: "#e06c6c", green: "#7fc98b", yellow: "#d8b465", blue: "#7aa2e8", magenta: "#c792d8", cyan: "#6cc5cf", white: "#c8ced6",
  brightBlack: "#8a939e", brightRed: "#ff8f8f", brightGreen: "#a2e5ac", brightYellow: "#f2d48a", brightBlue: "#a3c2ff", brightMagenta: "#e3b5f2",
  brightCyan: "#93e4ec", brightWhite: "#ffffff",
};

/** Commands of a guest that end here: titles, directories, links, notifications, the clipboard, programs of others. */
const DEAF = [0, 1, 2, 7, 8, 9, 52, 133, 633, 777, 1337];

/** A terminal in an element. */
export function open(element) {
  const terminal = new Terminal({
    allowProposedApi: false, convertEol: false, cursorBlink: false, fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
    fontSize: 14, lineHeight: 1.15, scrollback: 5000, theme: THEME, linkHandler: { activate() {}, allowNonHttpProtocols: false }, windowOptions: {}, logLevel: "off",
    minimumContrastRatio: 4.5, macOptionIsMeta: true,
  });
  for (const number of DEAF) terminal.parser.registerOscHandler(number, () => true);
  terminal.open(element);
  return terminal;
}

/** How many rows and columns fit into the element around the terminal. */
export function fitting(terminal, element) {
  const screen = element.querySelector(".xterm-screen").getBoundingClientRect();
  const room = element.getBoundingClientRect();
  const [width, height] = [screen.width / terminal.cols, screen.height / terminal.rows];
  if (!(width > 0 && height > 0)) return null;
  // The bar at the right for scrolling.
  const columns = Math.floor((room.width - 16) / width);
  const rows = Math.floor((room.height - 4) / height);
  return { rows: Math.min(Math.max(rows, 4), 255), columns: Math.min(Math.max(columns, 20), 1023) };
}

/** The lines that are visible, as text. */
export function visible(terminal) {
  const buffer = terminal.buffer.active;
  const lines = [];
  for (let row = 0; row < terminal.rows; row += 1) lines.push(buffer.getLine(buffer.viewportY + row)?.translateToString(true) ?? "");
  return `${lines.join("\n").trimEnd()}\n`;
}

/** Selects the next place above the selection that has this text; or below it. False if there is none. */
export function find(terminal, text, backwards) {
  const buffer = terminal.buffer.active;
  const wanted = text.toLowerCase();
  if (!wanted) return false;
  const selected = terminal.getSelectionPosition();
  const step = backwards ? -1 : 1;
  const from = selected ? selected.start.y : backwards ? buffer.length : -1;
  for (let count = 0, row = from + step; count < buffer.length; count += 1, row += step) {
    const at = ((row % buffer.length) + buffer.length) % buffer.length;
    const column = buffer.getLine(at)?.translateToString(true).toLowerCase().indexOf(wanted) ?? -1;
    if (column >= 0) {
      terminal.select(column, at, text.length);
      terminal.scrollToLine(Math.max(0, at - Math.floor(terminal.rows / 2)));
      return true;
    }
  }
  return false;
}
