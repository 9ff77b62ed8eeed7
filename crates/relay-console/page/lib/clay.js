// What Clay does with a row: columns from JSON, and `/Column` in a body. And the bodies to paste there.

/** "firstName" as "First Name": the name that a column gets. */
export function columnName(key) {
  const words = key
    .replace(/[_-]+/g, " ")
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .trim();
  return words.replace(/(^|\s)\S/g, (letter) => letter.toUpperCase());
}

/**
 * The columns of rows, and each row's cells by the name of the column. What is an object at the root is taken apart, as its
 * fields are made columns in Clay; what is an object below that is JSON in its cell.
 * @param {object[]} bodies
 * @returns {{columns: string[], cells: Map<string, unknown>[]}}
 */
export function toTable(bodies) {
  const paths = new Map();
  for (const body of bodies) for (const path of fields(body).keys()) if (!paths.has(path)) paths.set(path, null);
  // An address is the contact's first, and only then the one that it is identified by.
  const ordered = [...paths.keys()].sort((one, other) => rank(one) - rank(other));
  const taken = new Set();
  for (const path of ordered) {
    const short = columnName(path.split(".").at(-1));
    const name = taken.has(short) ? columnName(path.replaceAll(".", " ")) : short;
    taken.add(name);
    paths.set(path, name);
  }
  const cells = bodies.map((body) => new Map([...fields(body)].map(([path, value]) => [paths.get(path), value])));
  return { columns: ordered.map((path) => paths.get(path)), cells };
}

function rank(path) {
  if (path === "contact.email") return 0;
  if (path === "contact.firstName") return 1;
  if (path.startsWith("contact.")) return path === "contact.id" ? 3 : 2;
  return path.includes(".") ? 5 : 4;
}

function fields(body) {
  const found = new Map();
  for (const [key, value] of Object.entries(body ?? {})) {
    if (isObject(value) && Object.keys(value).length > 0) {
      for (const [inner, each] of Object.entries(value)) found.set(`${key}.${inner}`, each);
    } else {
      found.set(key, value);
    }
  }
  return found;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text of a cell. */
export function cellText(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * Puts a row's cells in place of `/Column`: as they are, without escaping. What names no column stays as it was typed.
 * @param {string} template
 * @param {string[]} columns
 * @param {(column: string) => string} cell
 * @param {(text: string) => string} encode For a query.
 */
export function substitute(template, columns, cell, encode = (text) => text) {
  if (columns.length === 0) return template;
  const longestFirst = [...columns].sort((one, other) => other.length - one.length);
  const names = longestFirst.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  return template.replace(new RegExp(`/(${names})(?![A-Za-z0-9])`, "g"), (_, name) => encode(cell(name)));
}

/** Properties that a body should have only on purpose: they would subscribe people again, or Loops sets them itself. */
const ON_PURPOSE = new Set(["subscribed", "source", "createdAt", "mailingLists"]);

/** Whether a property stands in the body unless somebody takes it out. */
export function isUsual({ key }) {
  return !ON_PURPOSE.has(key) && !key.startsWith("__");
}

/** The body of a contact column: each property from the column of its name, `email` first. */
export function contactBody(properties) {
  const keys = properties.filter(({ key }) => key !== "email");
  const lines = [["email", "Email"], ...keys.map(({ key }) => [key, columnName(key)])];
  return asBody(lines);
}

/** The body of an event column: an event with two of the account's properties. */
export function eventBody() {
  return `{\n  "eventName": "enriched",\n  "email": "/Email",\n  "eventProperties": {\n    "plan": "/Plan"\n  }\n}`;
}

/** A JSON object of `"key": "/Column"`. */
export function asBody(lines) {
  return `{\n${lines.map(([key, column]) => `  ${JSON.stringify(key)}: "/${column}"`).join(",\n")}\n}`;
}
