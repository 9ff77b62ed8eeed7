// The dialog that asks for the relay token.

import { h } from "./dom.js";
import { openDialog } from "./dialog.js";

/**
 * Asks for the relay token until there is one.
 * @param {boolean} refused Whether one was given before, and refused.
 * @returns {Promise<string>}
 */
export function askForToken(refused) {
  return new Promise((resolve) => {
    const input = h("input", {
      id: "relay-token",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
    });
    const form = h(
      "form",
      {
        class: "stack",
        onsubmit: (event) => {
          event.preventDefault();
          resolve(input.value.trim());
          dialog.close();
        },
      },
      refused && h("p", { class: "error", role: "alert" }, "That token was refused."),
      h(
        "p",
        {},
        "This relay listens beyond its own machine, so the console asks for the relay token. It stays in this page's memory.",
      ),
      h("label", { for: "relay-token" }, "Relay token"),
      input,
      h("div", { class: "row end" }, h("button", { class: "primary" }, "Open the console")),
    );
    const dialog = openDialog({ title: "Relay token", body: form, closable: false });
  });
}
