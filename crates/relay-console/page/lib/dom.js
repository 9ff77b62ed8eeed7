// Elements without HTML: whatever a contact is called, it is text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Attributes that are functions become handlers; those that are null, undefined or false are left out;
 * `key` tells it apart from its siblings when it is patched.
 * @param {string} tag Name of the element.
 * @param {Object<string, unknown>} attributes
 * @param {...(Node|string|number|null|undefined|false|Array)} children Texts become text nodes, never HTML.
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** Makes an SVG element; as `h` does. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  element.handlers = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "key") element.key = value;
    else if (typeof value === "function") element.handlers[name] = element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Makes `old` like `fresh` and leaves alone what is the same, so that focus, selection and what was typed stay.
 * What carries `data-own` looks after its own children.
 * @returns {Node} What now stands in the document.
 */
export function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.key !== fresh.key) {
    old.replaceWith(fresh);
    return fresh;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  patchAttributes(old, fresh);
  if (!old.hasAttribute("data-own")) patchChildren(old, fresh);
  return old;
}

function patchAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's choice.
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const name of Object.keys({ ...old.handlers, ...fresh.handlers })) old[name] = fresh.handlers?.[name] ?? null;
  old.handlers = fresh.handlers;
}

function patchChildren(old, fresh) {
  const keyed = new Map([...old.childNodes].filter((node) => node.key !== undefined).map((node) => [node.key, node]));
  let cursor = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const match = child.key === undefined ? cursor : keyed.get(child.key);
    if (!match || match.key !== child.key) {
      old.insertBefore(child, cursor);
      continue;
    }
    if (match === cursor) cursor = cursor.nextSibling;
    else old.insertBefore(match, cursor);
    keyed.delete(child.key);
    patch(match, child);
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

/** Puts these children, and no others, into an element; what is the same stays. */
export function fill(element, ...children) {
  patchChildren(element, h("div", {}, ...children));
}

/** Tells a screen reader about a change, once. */
export function announce(text) {
  const region = document.getElementById("announcements");
  if (region.textContent !== text) region.textContent = text;
}
