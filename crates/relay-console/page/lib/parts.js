// Small parts that several views have.

import { h, s, announce } from "./dom.js";
import { shownState } from "./words.js";

const STATE_LABELS = { waiting: "Waiting", held: "Held", delivered: "Delivered", dead: "Dead" };

/** The state of a delivery. */
export function statePill(delivery) {
  const state = shownState(delivery);
  return pill(STATE_LABELS[state] ?? state, state);
}

/** A word with a mark: `kind` is a class that gives the colour. */
export function pill(text, kind = "") {
  return h("span", { class: `pill ${kind}` }, text);
}

/** A bar from nothing to `max`, with a mark at `mark`. Its label is read aloud. */
export function meter({ value, max, mark, label, level = "" }) {
  const share = max > 0 ? Math.min(1, Math.max(0, value / max)) : 0;
  return s(
    "svg",
    { class: `meter ${level}`, viewBox: "0 0 200 8", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "track", x: 0, y: 0, width: 200, height: 8 }),
    share > 0 && s("rect", { class: "filled", x: 0, y: 0, width: Math.max(2, share * 200), height: 8 }),
    mark !== undefined &&
      mark < max &&
      s("line", { class: "mark", x1: (mark / max) * 200, x2: (mark / max) * 200, y1: 0, y2: 8 }),
  );
}

/** A button that copies a text and says so. */
export function copyButton(text, what) {
  return h(
    "button",
    {
      type: "button",
      class: "small copy",
      "aria-label": `Copy ${what}`,
      onclick: async (event) => {
        const button = event.currentTarget;
        try {
          await navigator.clipboard.writeText(text());
          button.textContent = "Copied";
          announce(`Copied ${what}.`);
        } catch {
          button.textContent = "Select it, and press Ctrl+C";
        }
        setTimeout(() => {
          button.textContent = "Copy";
        }, 2_000);
      },
    },
    "Copy",
  );
}

/** What is shown where there is nothing: a title, and what to do. */
export function empty(title, ...what) {
  return h(
    "div",
    { class: "empty" },
    h("p", { class: "empty-title" }, title),
    what.length ? h("p", {}, ...what) : null,
  );
}

/** A sentence of the relay: what stands between backticks is code. */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** An error, as a sentence. */
export function errorText(error) {
  return h(
    "p",
    { class: "error", role: "alert" },
    prose(error.message),
    error.status === 403 ? " If the relay was started again, reload this page." : "",
  );
}

/** A value of a contact: one direction of its own, cut off by the style; the rest is counted. */
export function value(text, max = 300) {
  const whole = typeof text === "string" ? text : JSON.stringify(text);
  if (whole === undefined || whole === "null" || whole === "") return h("span", { class: "nothing" }, "");
  if (whole.length <= max) return h("bdi", { class: "value", title: whole }, whole);
  return h(
    "bdi",
    { class: "value" },
    whole.slice(0, max),
    h("span", { class: "more" }, ` … ${whole.length} characters`),
  );
}
