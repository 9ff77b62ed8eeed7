// The last hour, minute by minute.

import { h, s } from "./dom.js";
import { count, minute, number } from "./format.js";

const WIDTH = 600;
const ABOVE = 120;
const BELOW = 34;

/**
 * The chart of the last hour: accepted as bars, delivered as a line, refused as bars below. What it shows stands below it as a
 * sentence and a table.
 * @param {{at: string, accepted: number, delivered: number, refused: number}[]} minutes The oldest first.
 * @returns {HTMLElement}
 */
export function hourChart(minutes) {
  const top = niceTop(Math.max(...minutes.map(({ accepted, delivered }) => Math.max(accepted, delivered))));
  const bottom = niceTop(Math.max(...minutes.map(({ refused }) => refused)));
  const step = WIDTH / minutes.length;
  const y = (value) => ABOVE - (value / top) * (ABOVE - 4);
  const readout = h("p", { class: "readout", "aria-hidden": "true" }, "");
  const line = minutes.map(({ delivered }, index) => `${(index + 0.5) * step},${y(delivered).toFixed(1)}`).join(" ");
  const chart = s(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${WIDTH} ${ABOVE + BELOW}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
      onpointermove: (event) => {
        const box = event.currentTarget.getBoundingClientRect();
        const index = Math.min(
          minutes.length - 1,
          Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * minutes.length)),
        );
        event.currentTarget.parentNode.querySelector(".readout").textContent = sentence(minutes[index]);
      },
      onpointerleave: (event) => {
        event.currentTarget.parentNode.querySelector(".readout").textContent = "";
      },
    },
    [0.5, 1].map((share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * share), y2: y(top * share) })),
    minutes.map(({ accepted, refused }, index) => [
      accepted > 0 &&
        s("rect", {
          class: "accepted",
          x: index * step + 1,
          width: step - 2,
          y: y(accepted),
          height: ABOVE - y(accepted),
        }),
      refused > 0 &&
        s("rect", {
          class: "refused",
          x: index * step + 1,
          width: step - 2,
          y: ABOVE + 2,
          height: Math.max(2, (refused / bottom) * (BELOW - 4)),
        }),
    ]),
    s("line", { class: "axis", x1: 0, x2: WIDTH, y1: ABOVE + 1, y2: ABOVE + 1 }),
    s("polyline", { class: "delivered", points: line }),
  );
  return h(
    "figure",
    { class: "hour" },
    h(
      "div",
      { class: "legend", "aria-hidden": "true" },
      h("span", { class: "accepted" }, "Accepted"),
      h("span", { class: "delivered" }, "Delivered"),
      h("span", { class: "refused" }, "Refused"),
      readout,
    ),
    h(
      "div",
      { class: "plot" },
      chart,
      h("span", { class: "top" }, number(top)),
      h("span", { class: "half" }, top > 1 ? number(top / 2) : ""),
    ),
    h(
      "div",
      { class: "times", "aria-hidden": "true" },
      [0, 15, 30, 45].map((index) => h("span", {}, minutes[index] ? minute(minutes[index].at) : "")),
      h("span", {}, "now"),
    ),
    h("figcaption", { class: "visually-hidden" }, summary(minutes)),
  );
}

/** The same as a table, the newest minute first, without the minutes in which nothing happened. */
export function hourTable(minutes) {
  const busy = minutes.filter(({ accepted, delivered, refused }) => accepted + delivered + refused > 0).reverse();
  return h(
    "details",
    { class: "as-table" },
    h("summary", {}, "Show as a table"),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "The last hour as a table" },
      h(
        "table",
        {},
        h("caption", { class: "visually-hidden" }, "The last hour, minute by minute"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Minute", "Accepted", "Delivered", "Refused"].map((text, index) =>
              h("th", { scope: "col", class: index > 0 ? "num" : null }, text),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          busy.map((each) =>
            h(
              "tr",
              { key: each.at },
              h("th", { scope: "row" }, minute(each.at)),
              [each.accepted, each.delivered, each.refused].map((value) => h("td", { class: "num" }, number(value))),
            ),
          ),
        ),
      ),
    ),
  );
}

function sentence({ at, accepted, delivered, refused }) {
  return `${minute(at)}: ${number(accepted)} accepted, ${number(delivered)} delivered, ${number(refused)} refused`;
}

/** The hour in a sentence. */
export function summary(minutes) {
  const sum = (name) => minutes.reduce((total, each) => total + each[name], 0);
  return (
    `The last hour: ${count(sum("accepted"), "request")} accepted, ${count(sum("delivered"), "delivery", "deliveries")} made, ` +
    `${count(sum("refused"), "request")} refused.`
  );
}

/** The next of 2, 4, 10, 20, 40, 100 …: half of it is whole as well. */
function niceTop(value) {
  let top = 1;
  while (true) {
    for (const step of [2, 4, 10]) if (value <= top * step) return top * step;
    top *= 10;
  }
}
