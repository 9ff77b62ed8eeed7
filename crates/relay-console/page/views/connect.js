// Connect: what is set up, what is next, and what to paste where.

import { get, post } from "../lib/api.js";
import { contactBody, eventBody, isUsual } from "../lib/clay.js";
import { announce, fill, h } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { empty, errorText, pill, prose } from "../lib/parts.js";
import { column, inLoops, properties } from "./paste.js";

const STEPS = {
  "loops-webhook": "Loops sends its webhooks here",
  "clay-webhook": "Clay has a webhook for the rows",
  "loops-key": "The relay has a Loops key",
  "relay-token": "Clay calls with the relay token",
};

/** @param {HTMLElement} root */
export function connectView(root) {
  let connect = null;
  let failed = null;
  let findings = null;
  let examining = false;
  let chosen = null;
  let dryRun = true;

  const read = async () => {
    try {
      connect = await get("connect");
      chosen ??= new Set(connect.properties.filter(isUsual).map(({ key }) => key));
      failed = null;
    } catch (error) {
      failed = error;
    }
    draw();
  };

  const examine = async () => {
    examining = true;
    draw();
    try {
      findings = (await post("doctor", {})).findings;
      const bad = findings.filter(({ outcome }) => outcome !== "ok").length;
      announce(bad ? `${count(bad, "check")} found something.` : "All checks are ok.");
    } catch (error) {
      findings = error;
    }
    examining = false;
    draw();
  };

  const draw = () =>
    fill(
      root,
      failed && errorText(failed),
      !connect && !failed && h("p", { class: "loading" }, "Reading the properties of your Loops account …"),
      connect &&
        h(
          "div",
          { class: "columns two" },
          h(
            "div",
            { class: "column" },
            h(
              "section",
              { class: "card", "aria-labelledby": "steps-title" },
              h("h2", { id: "steps-title" }, "Set-up"),
              steps(connect.steps),
            ),
            inLoops(connect),
          ),
          doctor(findings, examining, examine),
          h(
            "section",
            { class: "card wide", "aria-labelledby": "clay-title" },
            h("h2", { id: "clay-title" }, "In Clay"),
            h(
              "p",
              {},
              "Add an ",
              h("b", {}, "HTTP API"),
              " enrichment and paste these. In the body, each ",
              h("code", {}, "/Name"),
              " stands for a column: delete it, type ",
              h("code", {}, "/"),
              " and pick the column from the list.",
            ),
            h(
              "label",
              { class: "check" },
              h("input", {
                type: "checkbox",
                checked: true,
                onchange: (event) => {
                  dryRun = event.currentTarget.checked;
                  draw();
                },
              }),
              "Dry run first: the cell shows what would be sent, and nothing is",
            ),
            h(
              "div",
              { class: "pair" },
              column(
                "Contacts",
                "PUT",
                connect.clayContactUrl,
                contactBody(connect.properties.filter(({ key }) => chosen.has(key))),
                connect,
                dryRun,
                properties(connect.properties, chosen, draw),
              ),
              column(
                "Events",
                "POST",
                connect.clayEventUrl,
                eventBody(),
                connect,
                dryRun,
                h(
                  "p",
                  { class: "faint" },
                  "The same event about the same contact is sent once in 30 days, however often the row is run.",
                ),
              ),
            ),
          ),
        ),
    );

  draw();
  read();
  let seen = "";
  return {
    update({ directions }) {
      const now = directions.map(({ destination, accepted }) => `${destination}${accepted > 0}`).join();
      if (seen && seen !== now) read();
      seen = now;
    },
  };
}

function steps(all) {
  const next = all.findIndex(({ done }) => !done);
  return [
    h(
      "ol",
      { class: "steps" },
      all.map(({ name, done, sentence }, index) =>
        h(
          "li",
          {
            key: name,
            class: done ? "done" : index === next ? "next" : "",
            "aria-current": index === next ? "step" : null,
          },
          h(
            "div",
            {},
            h(
              "p",
              { class: "row wrap" },
              h("b", {}, STEPS[name] ?? name),
              done ? pill("Done", "delivered") : index === next && pill("Next", "accent"),
            ),
            h("p", { class: "faint" }, prose(sentence)),
          ),
        ),
      ),
    ),
    next === -1 && h("p", { class: "faint" }, "Everything is connected."),
  ];
}

function doctor(findings, examining, examine) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "doctor-title" },
    h(
      "header",
      { class: "row between" },
      h("h2", { id: "doctor-title" }, "Doctor"),
      h(
        "button",
        { type: "button", disabled: examining, onclick: examine },
        examining ? "Examining …" : findings ? "Examine again" : "Examine",
      ),
    ),
    findings === null &&
      empty(
        "Not examined yet",
        "It checks the keys, the destinations, the store and the last deliveries, and says what to do.",
      ),
    findings instanceof Error && errorText(findings),
    Array.isArray(findings) &&
      h(
        "ul",
        { class: "findings" },
        findings.map(({ check, outcome, observed, remedy, runbook }) =>
          h(
            "li",
            { key: check },
            pill(
              { ok: "ok", warn: "warning", fail: "problem" }[outcome] ?? outcome,
              { ok: "delivered", warn: "waiting", fail: "dead" }[outcome],
            ),
            h(
              "div",
              {},
              h("p", {}, h("b", {}, check), " ", prose(observed)),
              remedy &&
                h(
                  "p",
                  { class: "remedy" },
                  prose(remedy),
                  " ",
                  runbook?.startsWith("https://") &&
                    h(
                      "a",
                      { href: runbook, target: "_blank", rel: "noreferrer", "aria-label": `Runbook: ${check}` },
                      "Runbook",
                    ),
                ),
            ),
          ),
        ),
      ),
  );
}
