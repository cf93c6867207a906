// Elements of the pages. Text from guests and monitors becomes text nodes, and nothing else: no function here takes markup.

/** What may be set on an element; names of attributes never come from elsewhere. */
const ATTRIBUTES = new Set([
  "aria-label", "aria-live", "aria-pressed", "aria-current", "aria-busy", "aria-hidden", "autocomplete", "class", "colspan", "disabled",
  "download", "for", "hidden", "href", "id", "inputmode", "maxlength", "name", "open", "placeholder", "required", "role", "scope",
  "spellcheck", "tabindex", "title", "type", "autocapitalize", "value", "data-state", "data-label", "autofocus", "aria-labelledby",
]);

/**
 * An element: its tag, attributes and listeners (`onclick: function`), and children: elements, or values that are shown as
 * text. An address in `href` begins with `#`: pages lead to pages.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else if (!ATTRIBUTES.has(name) || (name === "href" && !String(value).startsWith("#"))) {
      throw new Error(`attribute ${name} is not foreseen`);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((it) => it !== null && it !== undefined && it !== false)
    .map((it) => (it instanceof Node ? it : document.createTextNode(String(it)))));
  return element;
}

/** Replaces what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean)
    .map((it) => (it instanceof Node ? it : document.createTextNode(String(it)))));
}

/** Sets the text of an element if it is another one; a reader of the screen hears only changes. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let timer;

/** Tells the user something for a while. */
export function notice(text) {
  const place = document.getElementById("notice");
  say(place, text);
  clearTimeout(timer);
  timer = setTimeout(() => say(place, ""), 8000);
}

/** A question with two answers; true if it is confirmed. */
export function confirm(question, detail, action) {
  return new Promise((resolve) => {
    const done = (answer) => { dialog.close(); dialog.remove(); resolve(answer); };
    const dialog = h("dialog", { "aria-labelledby": "question", oncancel: () => done(false) },
      h("h2", { id: "question" }, question),
      h("p", {}, detail),
      h("div", { class: "actions" },
        h("button", { type: "button", autofocus: true, onclick: () => done(false) }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => done(true) }, action)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Gives the user a file. */
export function save(name, parts, type) {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** A size in bytes, for people. */
export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${bytes >= 10 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

/** Seconds, for people. */
export function duration(seconds) {
  const [d, h, m] = [86400, 3600, 60].map((unit, at) => Math.floor((at ? seconds % [0, 86400, 3600][at] : seconds) / unit));
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min` : `${Math.floor(seconds)} s`;
}
