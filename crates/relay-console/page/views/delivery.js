// One delivery's whole story, in a panel.

import { get, post } from "../lib/api.js";
import { openDialog } from "../lib/dialog.js";
import { fill, h } from "../lib/dom.js";
import { count, number, time } from "../lib/format.js";
import { copyButton, errorText, prose, statePill } from "../lib/parts.js";
import { DIRECTIONS, kindText, reasonText } from "../lib/words.js";
import { deadLetterAct } from "./acts.js";

/**
 * Opens the panel of a delivery.
 * @param {string} id
 * @param {() => void} onClose
 * @returns {{close: () => void}}
 */
export function openDelivery(id, onClose) {
  const content = h("div", { class: "stack story" }, h("p", { class: "loading" }, "Reading …"));
  const read = async () => {
    try {
      const story = await get(`deliveries/${encodeURIComponent(id)}`);
      fill(content, tell(story, read));
    } catch (error) {
      fill(content, errorText(error));
    }
  };
  const dialog = openDialog({ title: "Delivery", body: content, kind: "panel", onClose });
  read();
  return dialog;
}

function tell({ delivery, nextStep, bodyStored }, read) {
  return [
    h(
      "div",
      { class: "row wrap" },
      statePill(delivery),
      h("span", { class: "faint" }, DIRECTIONS[delivery.direction].label),
      h("span", {}, kindText(delivery)),
    ),
    h("p", { class: "next" }, prose(nextStep)),
    delivery.state === "dead" && acts(delivery, read),
    h("section", {}, h("h3", {}, "Timeline"), timeline(delivery)),
    delivery.failures.length > 0 && failures(delivery.failures),
    h("section", {}, h("h3", {}, "Details"), details(delivery)),
    body(delivery, bodyStored),
  ];
}

function acts({ id, direction }, read) {
  const act = (kind) => () => deadLetterAct(kind, { ids: [id], direction }, "this delivery", read);
  return h(
    "div",
    { class: "row" },
    h("button", { type: "button", class: "primary", onclick: act("retry") }, "Retry …"),
    h("button", { type: "button", class: "danger", onclick: act("drop") }, "Drop …"),
  );
}

/** The times of a delivery, in the order in which they were. */
function timeline(delivery) {
  const { to } = DIRECTIONS[delivery.direction];
  const ending = delivery.diedAt ?? delivery.settledAt;
  const times = [
    [delivery.receivedAt, "Accepted by the relay", ""],
    [delivery.firstAttemptAt, "First attempt", ""],
    [delivery.heldSince, "Held: waits for an operator", "held"],
    delivery.attempts > 1 && [delivery.lastAttemptAt, `Attempt ${number(delivery.attempts)}`, ""],
    ending && [ending, delivery.state === "dead" ? "Became a dead letter" : `Delivered to ${to}`, delivery.state],
    [delivery.droppedAt, "Dropped by an operator", "dead"],
    delivery.state === "waiting" && [delivery.nextAttemptAt, "Next attempt is due", "next"],
  ].filter((each) => each && each[0]);
  times.sort(([one], [other]) => Date.parse(one) - Date.parse(other));
  return h(
    "ol",
    { class: "timeline" },
    times.map(([at, text, kind]) =>
      h("li", { class: kind }, h("span", {}, text), h("time", { datetime: at, title: at }, time(at))),
    ),
  );
}

function failures(all) {
  return h(
    "section",
    {},
    h("h3", {}, "What failed"),
    h(
      "ul",
      { class: "reasons" },
      all.map(({ reason, status, count: times, lastAt }) =>
        h(
          "li",
          { key: `${reason} ${status}` },
          h(
            "p",
            { class: "row between" },
            h("span", {}, status ? h("b", {}, `${status} `) : "", reasonText(reason)),
            h("span", {}, count(times, "time")),
          ),
          h("p", { class: "faint" }, h("code", {}, reason), lastAt ? ` · last at ${time(lastAt)}` : ""),
        ),
      ),
    ),
  );
}

function details(delivery) {
  const known = [
    ["Attempts", number(delivery.attempts)],
    ["Reason", delivery.reason && [reasonText(delivery.reason), " ", h("code", {}, delivery.reason)]],
    ["Answer", delivery.status],
    ["Account", delivery.destination],
    ["Route", delivery.route],
    ["Id", h("code", {}, delivery.id)],
    ["webhook-id", delivery.webhookId && h("code", {}, delivery.webhookId)],
    ["Contact (hash)", delivery.contactHash && h("code", {}, delivery.contactHash)],
  ].filter(([, shown]) => shown);
  return h(
    "dl",
    { class: "facts" },
    known.map(([name, shown]) => h("div", {}, h("dt", {}, name), h("dd", {}, shown))),
  );
}

/** The body: only where the store has it, and only after a click. */
function body({ id }, stored) {
  const place = h("div", { class: "stack start", "data-own": true });
  const show = async () => {
    try {
      const { body: text } = await post(`deliveries/${encodeURIComponent(id)}/body`, {});
      fill(
        place,
        h("pre", { class: "code", tabindex: "0", "aria-label": "Body" }, h("bdi", {}, pretty(text))),
        copyButton(() => text, "the body"),
      );
    } catch (error) {
      fill(place, errorText(error));
    }
  };
  if (stored) place.append(h("button", { type: "button", onclick: show }, "Show body"));
  return h(
    "section",
    { key: id },
    h("h3", {}, "Body"),
    stored
      ? h("p", { class: "faint" }, "It is the contact's own data: it is read only when you ask for it.")
      : h(
          "p",
          { class: "faint" },
          "It is no longer stored: a delivery loses its body when it is delivered or dropped.",
        ),
    place,
  );
}

/** JSON with line breaks; anything else as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
