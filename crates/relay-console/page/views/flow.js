// Flow: what comes, waits, is delivered or dies, in both directions.

import { fill, h } from "../lib/dom.js";
import { hourChart, hourTable } from "../lib/chart.js";
import { count, duration, number, rate, time } from "../lib/format.js";
import { empty, meter, pill } from "../lib/parts.js";
import { DIRECTIONS } from "../lib/words.js";
import { pauseAct } from "./pause.js";
import { deadLetterCard } from "./dead-letters.js";
import { refusedCard } from "./refused.js";

/** @param {HTMLElement} root */
export function flowView(root) {
  const dead = deadLetterCard();
  return {
    update(overview) {
      dead.update(overview);
      fill(
        root,
        lanes(overview),
        h(
          "div",
          { class: "columns two" },
          h("div", { class: "column" }, hour(overview), refusedCard(overview)),
          h("div", { class: "column" }, dead.element(overview), webhooks(overview)),
        ),
      );
    },
  };
}

function lanes(overview) {
  const toClay = overview.directions.find(({ direction }) => direction === "loops-to-clay");
  const toLoops = overview.directions.find(({ direction }) => direction === "clay-to-loops");
  const since = overview.countedSince;
  return h(
    "section",
    { class: "flow", "aria-label": "The flow in both directions" },
    party("Loops", "the audience", toLoops.destination),
    h(
      "div",
      { class: "lanes" },
      lane(toClay),
      lane(toLoops),
      h(
        "p",
        { class: "since" },
        since
          ? `Accepted and delivered are counted since ${time(since)}.`
          : "What was accepted and delivered is not counted here.",
      ),
    ),
    party("Clay", "the table", toClay.destination),
  );
}

function party(name, what, destination) {
  const says = { real: "connected", simulated: "simulated", closed: "closed" }[destination] ?? destination;
  return h(
    "div",
    { class: `party ${name.toLowerCase()}` },
    h("strong", {}, name),
    h("span", {}, what),
    pill(says, `is-${destination}`),
  );
}

function lane(view) {
  const { label, spoken, to } = DIRECTIONS[view.direction];
  const link = (state) => `#deliveries?direction=${view.direction}&state=${state}`;
  const held = view.held ?? 0;
  return h(
    "section",
    { class: `lane ${view.direction}`, key: view.direction, "aria-label": spoken },
    h(
      "header",
      {},
      h("h2", {}, label),
      laneState(view),
      h(
        "button",
        {
          type: "button",
          class: "small",
          "aria-label": `${view.paused ? "Resume" : "Pause"} ${spoken} …`,
          onclick: () => pauseAct(view),
        },
        view.paused ? "Resume …" : "Pause …",
      ),
    ),
    h(
      "dl",
      { class: "stages" },
      stage("Accepted", view.accepted),
      stage("Waiting", view.waiting, link("waiting"), view.waiting > 0 && "waiting"),
      stage("Held", view.held, link("held"), held > 0 && "held"),
      stage("Dead", view.deadLetters, link("dead"), view.deadLetters > 0 && "dead"),
      stage("Delivered", view.delivered, link("delivered"), view.delivered > 0 && "delivered"),
    ),
    h(
      "div",
      { class: "gauges" },
      h(
        "div",
        { class: "gauge" },
        meter({
          value: view.perSecond ?? 0,
          max: view.destinationLimit,
          mark: view.rateLimit,
          label: `${rate(view.perSecond)} deliveries a second of ${view.rateLimit} that the relay sends; ${to} takes ${view.destinationLimit}`,
        }),
        h(
          "p",
          {},
          view.perSecond === null
            ? `At most ${view.rateLimit} a second`
            : [h("b", {}, rate(view.perSecond)), ` a second; at most ${view.rateLimit}`],
          `, and ${to} takes ${view.destinationLimit}`,
        ),
      ),
      h(
        "p",
        { class: "oldest" },
        view.oldestSeconds === null || view.oldestSeconds === undefined
          ? "Nothing waits"
          : ["The oldest has waited ", h("b", {}, duration(view.oldestSeconds))],
      ),
    ),
  );
}

function laneState(view) {
  if (view.paused) return pill(view.pausedSince ? `Paused since ${time(view.pausedSince)}` : "Paused", "waiting");
  if (view.destination === "closed") return pill("Closed", "held");
  if (view.held > 0) return pill("Waits for you", "held");
  if (view.perSecond > 0) return pill("Flowing", "delivered");
  return pill(view.waiting > 0 ? "Waiting" : "Quiet", view.waiting > 0 ? "waiting" : "");
}

function stage(label, value, href, kind) {
  const figure = h(
    "dd",
    {},
    href ? h("a", { href, "aria-label": `${label}: ${number(value)}. Show them` }, number(value)) : number(value),
  );
  return h("div", { class: `stage ${kind || ""} ${value ? "" : "none"}` }, h("dt", {}, label), figure);
}

function hour({ minutes, trial }) {
  const quiet = !minutes || minutes.every(({ accepted, delivered, refused }) => accepted + delivered + refused === 0);
  return h(
    "section",
    { class: "card", key: "hour", "aria-labelledby": "hour-title" },
    h("h2", { id: "hour-title" }, "The last hour"),
    !minutes &&
      empty("Not counted here", "This page has no counts by the minute. What waits, and the dead letters, are exact."),
    minutes &&
      quiet &&
      empty(
        "A quiet hour",
        "Nothing came in the last sixty minutes. ",
        trial
          ? [h("a", { href: "#trial" }, "Try it"), " with a contact of your own: nothing leaves this machine."]
          : [h("a", { href: "#connect" }, "Connect"), " shows what is set up, and what is next."],
      ),
    minutes && !quiet && [hourChart(minutes), hourTable(minutes)],
  );
}

function webhooks({ webhooks: all, directions }) {
  const simulated = directions.some(
    ({ direction, destination }) => direction === "loops-to-clay" && destination === "simulated",
  );
  return h(
    "section",
    { class: "card", key: "webhooks", "aria-labelledby": "webhooks-title" },
    h("h2", { id: "webhooks-title" }, "Clay webhooks"),
    all.length === 0
      ? empty(
          "No webhook yet",
          simulated ? "Clay is simulated. To send to the real one, make a webhook there: " : "Make one in Clay: ",
          h("a", { href: "#connect" }, "Connect"),
          " says how.",
        )
      : h("ul", { class: "webhooks" }, all.map(webhook)),
  );
}

function webhook({ route, webhook: fingerprint, accepted, limit, refusedWith }) {
  const left = Math.max(0, limit - accepted);
  const level = refusedWith || left === 0 ? "dead" : left < limit / 10 ? "waiting" : "";
  return h(
    "li",
    { key: fingerprint },
    h("p", { class: "row between" }, h("b", {}, route), h("code", { class: "faint" }, fingerprint)),
    meter({ value: accepted, max: limit, level, label: `${number(accepted)} of ${number(limit)} rows used` }),
    h("p", { class: "faint" }, `${number(accepted)} of ${count(limit, "row")} used`),
    refusedWith &&
      h("p", { class: "error" }, `Clay refuses rows with ${refusedWith}: add another webhook to this route.`),
  );
}
