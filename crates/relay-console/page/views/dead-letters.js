// Dead letters by reason, with the way to the acts.

import { coalesced } from "../lib/coalesce.js";
import { h, fill } from "../lib/dom.js";
import { get, query } from "../lib/api.js";
import { number } from "../lib/format.js";
import { empty } from "../lib/parts.js";
import { DIRECTIONS, reasonText } from "../lib/words.js";
import { deadLetterAct } from "./acts.js";

const READ = 200;

/** The card of the dead letters. It reads them again when their number has changed. */
export function deadLetterCard() {
  let numbers = "";
  let groups = [];
  let all = true;
  const list = h("div", { "data-own": true });

  const read = coalesced(async () => {
    const { deliveries } = await get(`deliveries?${query({ state: "dead", limit: READ })}`);
    all = deliveries.length < READ;
    groups = [...groupBy(deliveries)].map(([key, letters]) => ({ key, letters }));
    groups.sort((one, other) => other.letters.length - one.letters.length);
    fill(
      list,
      h("ul", { class: "reasons" }, groups.map(group)),
      !all &&
        h("p", { class: "faint" }, `Of the newest ${READ}. `, h("a", { href: "#deliveries?state=dead" }, "Show all")),
    );
  });

  const group = ({ key, letters }) => {
    const [{ reason, direction }] = letters;
    const selection = { reason, direction };
    const name = reason ? reasonText(reason) : "no reason is known";
    return h(
      "li",
      { key },
      h(
        "p",
        { class: "row between" },
        h(
          "a",
          { href: `#deliveries?${query({ state: "dead", reason, direction })}` },
          name[0].toUpperCase() + name.slice(1),
        ),
        h("b", {}, number(letters.length), !all && "+"),
      ),
      h(
        "p",
        { class: "row between" },
        h("span", { class: "faint" }, DIRECTIONS[direction].label, " · ", h("code", {}, reason ?? "none")),
        reason &&
          h(
            "span",
            { class: "row" },
            h(
              "button",
              { type: "button", class: "small", onclick: () => deadLetterAct("retry", selection, name) },
              "Retry …",
            ),
            h(
              "button",
              { type: "button", class: "small danger", onclick: () => deadLetterAct("drop", selection, name) },
              "Drop …",
            ),
          ),
      ),
    );
  };

  return {
    update({ directions }) {
      const now = directions.map(({ deadLetters }) => deadLetters).join();
      if (now === numbers) return;
      numbers = now;
      if (directions.some(({ deadLetters }) => deadLetters > 0)) {
        read().catch((error) => {
          numbers = "";
          fill(list, h("p", { class: "error" }, error.message));
        });
      }
    },
    element({ directions }) {
      const total = directions.reduce((sum, each) => sum + each.deadLetters, 0);
      return h(
        "section",
        { class: "card", key: "dead", "aria-labelledby": "dead-title" },
        h("h2", { id: "dead-title" }, "Dead letters", total > 0 && h("span", { class: "count" }, number(total))),
        total === 0
          ? h(
              "div",
              { key: "none" },
              empty(
                "No dead letters",
                "What cannot be delivered lies here with its body and its reason, until you retry or drop it.",
              ),
            )
          : h("div", { key: "some" }, list.isConnected ? h("div", { "data-own": true }) : list),
      );
    },
  };
}

function groupBy(deliveries) {
  const groups = new Map();
  for (const delivery of deliveries) {
    const key = `${delivery.direction} ${delivery.reason}`;
    groups.set(key, [...(groups.get(key) ?? []), delivery]);
  }
  return groups;
}
