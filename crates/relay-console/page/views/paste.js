// What to paste into Loops and Clay.

import { h } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { copyButton, prose } from "../lib/parts.js";

/** What to set in Loops. */
export function inLoops({ loopsWebhookUrl, loopsEvents }) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "loops-title" },
    h("h2", { id: "loops-title" }, "In Loops"),
    h(
      "p",
      {},
      "In ",
      h("b", {}, "Settings → Webhooks"),
      ": paste the endpoint and turn on the events. Then create a contact, and see its row in Clay.",
    ),
    isOnThisMachine(loopsWebhookUrl) &&
      h(
        "p",
        { class: "faint" },
        "Loops and Clay cannot reach this machine under such an address: put a proxy with TLS in front of the relay, and paste its host instead.",
      ),
    h(
      "dl",
      { class: "facts paste" },
      fact("Endpoint URL", loopsWebhookUrl),
      h(
        "div",
        {},
        h("dt", {}, "Events"),
        h(
          "dd",
          {},
          loopsEvents.length
            ? loopsEvents.map((event) => h("code", { class: "chip" }, event))
            : "none: RELAYED_EVENTS selects nothing",
        ),
      ),
      h(
        "div",
        {},
        h("dt", {}, "Signing secret"),
        h(
          "dd",
          {},
          "Loops shows it there (",
          h("code", {}, "whsec_…"),
          "). It goes into the relay: ",
          h("code", {}, "relayctl setup"),
          " asks for it.",
        ),
      ),
    ),
  );
}

/** One column of Clay: method, endpoint, header and body, each with a button that copies it. */
export function column(name, method, url, body, { relayTokenHint }, dryRun, more) {
  const endpoint = dryRun ? `${url}?dry-run=on` : url;
  const id = `column-${method}`;
  return h(
    "section",
    { class: "paste-column", "aria-labelledby": id, key: method },
    h("h3", { id }, name),
    h(
      "dl",
      { class: "facts paste" },
      h("div", {}, h("dt", {}, "Method"), h("dd", {}, h("code", {}, method))),
      fact("Endpoint", endpoint),
      fact("Header", "Authorization", "the header's name"),
      h(
        "div",
        {},
        h("dt", {}, "Its value"),
        h("dd", {}, h("code", {}, "Bearer <relay token>"), h("p", { class: "faint" }, prose(relayTokenHint))),
      ),
    ),
    h(
      "div",
      { class: "row between" },
      h("h4", {}, "Body"),
      copyButton(() => document.getElementById(`body-${method}`).textContent, `the body for ${name.toLowerCase()}`),
    ),
    h(
      "pre",
      { class: "code", id: `body-${method}`, tabindex: "0", "aria-label": `Body for ${name.toLowerCase()}` },
      body,
    ),
    more,
  );
}

function fact(name, text, what = name) {
  return h(
    "div",
    { key: name },
    h("dt", {}, name),
    h(
      "dd",
      { class: "row" },
      h("code", { class: "grow" }, breakable(text)),
      copyButton(() => text, what),
    ),
  );
}

/** A URL that breaks between its parts, if it must. */
function breakable(url) {
  return url.split(/(?<=[/?])(?=[^/])/).map((part, index) => [index > 0 && h("wbr"), part]);
}

/** Which of the account's properties the body has. */
export function properties(all, chosen, draw) {
  if (all.length === 0)
    return h("p", { class: "faint" }, "Loops did not name the properties of your account: it needs a key that works.");
  const toggle = (key) => (event) => {
    if (event.currentTarget.checked) chosen.add(key);
    else chosen.delete(key);
    draw();
  };
  const offered = all.filter(({ key }) => key !== "email" && !key.startsWith("__"));
  const picked = offered.filter(({ key }) => chosen.has(key)).length;
  return h(
    "details",
    { class: "as-table" },
    h("summary", {}, `${picked + 1} of your ${count(offered.length + 1, "property", "properties")}`),
    h(
      "p",
      { class: "faint" },
      "Quotes around every column are right: the relay turns “42” into 42 where the property is a number. ",
      "Leave subscribed out unless a column really has it: it would subscribe people again.",
    ),
    h(
      "div",
      { class: "checks" },
      offered.map(({ key, label, kind }) =>
        h(
          "label",
          { class: "check", key },
          h("input", { type: "checkbox", checked: chosen.has(key), onchange: toggle(key) }),
          h(
            "span",
            {},
            label || key,
            " ",
            h("code", { class: "faint" }, key),
            " ",
            h("span", { class: "faint" }, kind),
          ),
        ),
      ),
    ),
  );
}

/** Whether a URL leads to the machine that opens it. */
function isOnThisMachine(url) {
  return /^(localhost|127\.[\d.]+|\[::1\])$/.test(new URL(url).hostname);
}
