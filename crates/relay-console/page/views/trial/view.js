// The trial: a simulated Loops, the relay, and a simulated Clay, side by side.

import { get } from "../../lib/api.js";
import { coalesced } from "../../lib/coalesce.js";
import { fill, h } from "../../lib/dom.js";
import { number } from "../../lib/format.js";
import { errorText } from "../../lib/parts.js";
import { DIRECTIONS } from "../../lib/words.js";
import { clayTable } from "./clay.js";
import { audience } from "./loops.js";

/** @param {HTMLElement} root */
export function trialView(root) {
  let overview = null;
  let trial = null;
  let failed = null;
  let drawing = null;

  const read = coalesced(async () => {
    try {
      trial = await get("trial");
      failed = null;
    } catch (error) {
      failed = error;
    }
    draw();
  });

  /** Draws once for all that happens until the next frame. */
  const draw = () => {
    drawing ??= requestAnimationFrame(paint);
  };

  const paint = () => {
    drawing = null;
    fill(
      root,
      h(
        "p",
        { class: "notice" },
        h("b", {}, "Simulated. "),
        "Nothing leaves this machine: create a contact, see its row arrive, run a row, and break a destination to see that nothing is lost.",
      ),
      failed && errorText(failed),
      trial && h("div", { class: "trial" }, loops.element(trial.loops), relay(overview), clay.element(trial.clay)),
    );
  };

  const loops = audience(read);
  const clay = clayTable(read, draw);
  return {
    update(fresh) {
      overview = fresh;
      read();
    },
  };
}

/** The relay's small state, between the two. */
function relay({ directions }) {
  return h(
    "section",
    { class: "card middle", "aria-label": "The relay" },
    h("h2", {}, "Relay"),
    directions.map((view) =>
      h(
        "div",
        { class: `mini ${view.direction}`, key: view.direction },
        h("h3", {}, DIRECTIONS[view.direction].label),
        h(
          "dl",
          {},
          [
            ["Waiting", view.waiting, "waiting"],
            ["Held", view.held, "held"],
            ["Delivered", view.delivered, "delivered"],
            ["Dead", view.deadLetters, "dead"],
          ].map(([label, value, state]) =>
            h(
              "div",
              { class: value > 0 ? state : "none" },
              h("dt", {}, label),
              h(
                "dd",
                {},
                h(
                  "a",
                  {
                    href: `#deliveries?direction=${view.direction}&state=${state}`,
                    "aria-label": `${label}: ${number(value)}`,
                  },
                  number(value),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
