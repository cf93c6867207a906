// Lets the terminal style itself under a policy that forbids styles in the page: its style elements get the nonce of this
// page, and style attributes are set as properties, which the policy permits.

const nonce = document.querySelector("meta[name=style-nonce]").content;
const create = Document.prototype.createElement;
const set = Element.prototype.setAttribute;

Document.prototype.createElement = function (tag, ...rest) {
  const element = create.call(this, tag, ...rest);
  if (tag === "style") element.nonce = nonce;
  return element;
};

Element.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else set.call(this, name, value);
};
