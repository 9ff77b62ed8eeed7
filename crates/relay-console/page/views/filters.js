// The filters of the deliveries.

import { post } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { DIRECTIONS, REASON_CODES, reasonText } from "../lib/words.js";

const STATES = { "": "All", waiting: "Waiting", held: "Held", delivered: "Delivered", dead: "Dead" };
/** No filter at all. */
export const NOTHING = { state: "", direction: "", reason: "", id: "", contact: "" };

/** The filters by state, direction, reason and id. */
export function filters(filter, apply) {
  const select = (name, label, options) =>
    h(
      "label",
      { class: "field" },
      h("span", {}, label),
      h(
        "select",
        { "data-filter": name, onchange: (event) => apply({ [name]: event.currentTarget.value }) },
        Object.entries(options).map(([value, text]) => h("option", { value }, text)),
      ),
    );
  return [
    h(
      "div",
      { class: "segments", role: "group", "aria-label": "State" },
      Object.entries(STATES).map(([state, label]) =>
        h(
          "button",
          { type: "button", "aria-pressed": String(filter.state === state), onclick: () => apply({ state }) },
          label,
        ),
      ),
    ),
    select("direction", "Direction", {
      "": "Both",
      ...Object.fromEntries(Object.entries(DIRECTIONS).map(([key, { label }]) => [key, label])),
    }),
    select("reason", "Reason", {
      "": "Any",
      ...Object.fromEntries(REASON_CODES.map((code) => [code, reasonText(code)])),
    }),
    h(
      "form",
      {
        class: "field",
        onsubmit: (event) => {
          event.preventDefault();
          apply({ id: event.currentTarget.querySelector("input").value.trim() });
        },
      },
      h("label", { for: "filter-id" }, "Id"),
      h("input", {
        id: "filter-id",
        "data-filter": "id",
        placeholder: "delivery or webhook-id",
        spellcheck: "false",
        autocomplete: "off",
      }),
    ),
  ];
}

/** Finds one contact. Its address goes to the page's server, which answers with a hash, and is kept nowhere. */
export function finder(filter, apply) {
  const find = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const input = form.querySelector("input");
    const said = form.querySelector(".said");
    said.textContent = "";
    try {
      const { contact } = await post("contact", { contact: input.value.trim() });
      input.value = "";
      apply({ ...NOTHING, contact });
    } catch (error) {
      said.textContent = error.message;
    }
  };
  return h(
    "form",
    { class: "finder row wrap", onsubmit: find, autocomplete: "off" },
    h("label", { for: "find-contact" }, "Find a contact"),
    h("input", {
      id: "find-contact",
      type: "text",
      inputmode: "email",
      placeholder: "e-mail address or user id",
      required: true,
      autocomplete: "off",
      spellcheck: "false",
    }),
    h("button", {}, "Find"),
    filter.contact &&
      h(
        "span",
        { class: "chip" },
        "contact ",
        h("code", {}, filter.contact.slice(0, 10)),
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-label": "Show all contacts again",
            onclick: () => apply({ contact: "" }),
          },
          "×",
        ),
      ),
    h("p", { class: "said error", role: "alert", "data-own": true }),
  );
}
