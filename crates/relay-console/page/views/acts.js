// Retry or drop dead letters: first what would happen, then "do it".

import { post } from "../lib/api.js";
import { openDialog } from "../lib/dialog.js";
import { announce, fill, h } from "../lib/dom.js";
import { count, number } from "../lib/format.js";
import { errorText } from "../lib/parts.js";

/** What may be allowed where a dry run names this outcome. */
const OPTIONS = {
  outdated: ["evenIfOlder", "Even if older: overwrite what is newer of their contacts"],
  other_destination: ["redirect", "To the account that is served now"],
  outcome_unknown: ["evenIfSent", "Even if it may be sent already: Loops may e-mail these contacts a second time"],
};

/**
 * Opens the dialog of an act. It shows a dry run at once.
 * @param {"retry"|"drop"} kind
 * @param {{ids?: string[], reason?: string, all?: boolean, direction?: string}} selection
 * @param {string} name What is selected, as in "Loops refused it for good".
 * @param {() => void} onDone After something was done.
 */
export function deadLetterAct(kind, selection, name, onDone = () => {}) {
  const allowed = {};
  const offered = new Set();
  const content = h("div", { class: "stack" });
  const verb = kind === "retry" ? "Retry" : "Drop";
  let done = false;

  const run = async (apply) => {
    fill(
      content,
      h(
        "p",
        { class: "loading" },
        apply ? "Working, within the rate limit. It goes on if you close this." : "Looking what would happen …",
      ),
    );
    try {
      const answer = await post(`dead-letters/${kind}`, { ...selection, ...allowed, apply });
      if (apply) finished(answer);
      else planned(answer);
    } catch (error) {
      fill(
        content,
        errorText(error),
        buttons(h("button", { type: "button", onclick: () => run(false) }, "Look again")),
      );
    }
  };

  const planned = (answer) => {
    for (const outcome of Object.keys(answer.byOutcome)) if (OPTIONS[outcome]) offered.add(outcome);
    const total = h(
      "p",
      { class: "lead" },
      kind === "retry"
        ? [h("b", {}, number(answer.changed)), ` of ${count(answer.total, "dead letter")} would be sent again.`]
        : [
            h("b", {}, count(answer.changed, "dead letter")),
            ` would be dropped, with ${answer.changed === 1 ? "its body" : "their bodies"}. That cannot be undone.`,
          ],
    );
    const act = h(
      "button",
      {
        type: "button",
        class: kind === "drop" ? "primary danger" : "primary",
        disabled: answer.changed === 0,
        onclick: () => run(true),
      },
      `${verb} ${number(answer.changed)}`,
    );
    fill(
      content,
      total,
      outcomes(answer),
      [...offered].map(option),
      buttons(h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), act),
    );
  };

  const finished = (answer) => {
    done = true;
    const text = `${count(answer.changed, "dead letter")} ${kind === "retry" ? "sent again" : "dropped"}.`;
    announce(text);
    fill(
      content,
      h("p", { class: "lead" }, text),
      outcomes(answer),
      buttons(h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")),
    );
  };

  const option = (outcome) => {
    const [name_, label] = OPTIONS[outcome];
    return h(
      "label",
      { class: "check", key: name_ },
      h("input", {
        type: "checkbox",
        checked: Boolean(allowed[name_]),
        onchange: (event) => {
          allowed[name_] = event.currentTarget.checked;
          run(false);
        },
      }),
      label,
    );
  };

  const dialog = openDialog({
    title: `${verb} dead letters`,
    body: h("div", { class: "stack" }, h("p", { class: "faint" }, name[0].toUpperCase() + name.slice(1)), content),
    onClose: () => {
      if (done) onDone();
    },
  });
  run(false);
}

/** How many have which outcome, each with its sentence. */
function outcomes({ byOutcome, outcomes: first, behind }) {
  const sentence = (outcome) => first.find((each) => each.outcome === outcome)?.sentence ?? outcome;
  return h(
    "div",
    {},
    h(
      "ul",
      { class: "outcomes" },
      Object.entries(byOutcome).map(([outcome, times]) =>
        h("li", { key: outcome }, h("b", {}, number(times)), h("span", {}, sentence(outcome))),
      ),
    ),
    behind > 0 &&
      h(
        "p",
        { class: "faint" },
        `${number(behind)} more cannot be read now: they stand behind others of their contacts, or somebody else has them.`,
      ),
  );
}

function buttons(...children) {
  return h("div", { class: "row end" }, children);
}
