// What was refused, why, and what to do about it.

import { h } from "../lib/dom.js";
import { number, time } from "../lib/format.js";
import { empty, prose } from "../lib/parts.js";
import { DIRECTIONS } from "../lib/words.js";

const LAST = 6;

/** The card of the refused requests. */
export function refusedCard({ refusals, lastRefusals, minutes, countedSince }) {
  const total = refusals.reduce((sum, each) => sum + each.count, 0);
  return h(
    "section",
    { class: "card", key: "refused", "aria-labelledby": "refused-title" },
    h("h2", { id: "refused-title" }, "Refused", total > 0 && h("span", { class: "count" }, number(total))),
    total > 0
      ? counts(refusals)
      : minutes || countedSince
        ? empty(
            "Nothing was refused",
            "A refused request was not stored: its sender was told why, and may send it again.",
          )
        : empty("Not counted here", "The relay's log names each refused request, and why."),
    lastRefusals.length > 0 && last(lastRefusals),
  );
}

function counts(refusals) {
  return h(
    "ul",
    { class: "reasons" },
    refusals.map(({ code, count, advice }) =>
      h(
        "li",
        { key: code },
        h("p", { class: "row between" }, h("code", {}, code), h("b", {}, number(count))),
        h("p", { class: "faint" }, prose(advice)),
      ),
    ),
  );
}

function last(refusals) {
  return h(
    "details",
    { class: "as-table" },
    h("summary", {}, refusals.length === 1 ? "The last one" : `The last ${Math.min(LAST, refusals.length)}`),
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, "The last refused requests, the newest first"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["When", "Direction", "Code", "Field"].map((text) => h("th", { scope: "col" }, text)),
        ),
      ),
      h(
        "tbody",
        {},
        refusals
          .slice(0, LAST)
          .map((each) =>
            h(
              "tr",
              { key: each.id },
              h("td", {}, time(each.at)),
              h("td", {}, DIRECTIONS[each.direction].label),
              h("td", {}, h("code", {}, each.code)),
              h("td", {}, each.field ? h("bdi", { class: "value" }, each.field) : "–"),
            ),
          ),
      ),
    ),
  );
}
