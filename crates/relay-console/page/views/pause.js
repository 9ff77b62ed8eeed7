// Pause and resume a direction, after a confirmation.

import { post } from "../lib/api.js";
import { openDialog } from "../lib/dialog.js";
import { announce, h } from "../lib/dom.js";
import { errorText } from "../lib/parts.js";
import { DIRECTIONS } from "../lib/words.js";

/** Asks, then pauses or resumes. */
export function pauseAct({ direction, paused }) {
  const { label, to, spoken } = DIRECTIONS[direction];
  const verb = paused ? "Resume" : "Pause";
  const said = h("div", {});
  const act = async (event) => {
    event.currentTarget.disabled = true;
    try {
      await post("pause", { direction, paused: !paused });
      announce(`${spoken} is ${paused ? "resumed" : "paused"}.`);
      dialog.close();
    } catch (error) {
      said.replaceChildren(errorText(error));
    }
  };
  const dialog = openDialog({
    title: `${verb} ${label}?`,
    body: h(
      "div",
      { class: "stack" },
      h(
        "p",
        {},
        paused
          ? `What waits for ${to} is sent again, within the rate limit, in order.`
          : `Nothing is sent to ${to} until you resume. What arrives is stored, and nothing is lost.`,
      ),
      said,
      h(
        "div",
        { class: "row end" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "button", class: "primary", onclick: act }, verb),
      ),
    ),
  });
}
