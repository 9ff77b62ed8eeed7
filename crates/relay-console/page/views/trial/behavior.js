// How a simulated destination answers: as ever, or in one of the ways in which they fail.

import { post } from "../../lib/api.js";
import { announce, h } from "../../lib/dom.js";

const BEHAVIORS = {
  normal: ["Normal", "answers as ever"],
  rate_limited: ["429", "asks to wait"],
  failing: ["500", "fails"],
  hanging: ["Hangs", "gives no answer"],
  gone: ["Gone", "closes each connection"],
};

/**
 * The control of a destination.
 * @param {"loops"|"clay"} destination
 * @param {string} name
 * @param {string} current
 * @param {() => Promise<void>} changed
 */
export function behavior(destination, name, current, changed) {
  const choose = async (chosen) => {
    try {
      await post("trial/destination", { destination, behavior: chosen });
      announce(`${name} ${BEHAVIORS[chosen][1]}.`);
    } catch (error) {
      announce(error.message);
    }
    await changed();
  };
  return h(
    "div",
    { class: `behavior ${current === "normal" ? "" : "broken"}`, key: "behavior" },
    h(
      "span",
      { class: "faint", id: `behavior-${destination}` },
      current === "normal" ? `${name} answers` : `${name} ${BEHAVIORS[current]?.[1] ?? current}`,
    ),
    h(
      "div",
      { class: "segments", role: "group", "aria-labelledby": `behavior-${destination}` },
      Object.entries(BEHAVIORS).map(([key, [label, what]]) =>
        h(
          "button",
          {
            key,
            type: "button",
            "aria-pressed": String(current === key),
            title: `${name} ${what}`,
            "aria-label": `${label}: ${name} ${what}`,
            onclick: () => choose(key),
          },
          label,
        ),
      ),
    ),
  );
}
