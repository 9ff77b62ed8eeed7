// The trial's Clay: a table whose columns grow from the rows, and an HTTP API column that calls the relay.

import { post } from "../../lib/api.js";
import { cellText, toTable } from "../../lib/clay.js";
import { openDialog } from "../../lib/dialog.js";
import { announce, h } from "../../lib/dom.js";
import { count, number } from "../../lib/format.js";
import { empty, pill, value } from "../../lib/parts.js";
import { behavior } from "./behavior.js";
import { columnEditor } from "./column.js";

/** Calls at once: a browser makes six to one host, and the page itself needs two. */
const AT_ONCE = 4;

/**
 * @param {() => Promise<void>} changed After a row was run.
 * @param {() => void} draw Draws the trial again.
 */
export function clayTable(changed, draw) {
  const results = new Map();
  const typed = new Map();
  const ownColumns = [];
  const editor = columnEditor(draw);
  let table = { columns: [], cells: [] };
  let first = 0;

  const cell = (key, index) => (column) =>
    ownColumns.includes(column) ? (typed.get(`${key}/${column}`) ?? "") : cellText(table.cells[index]?.get(column));

  const run = async (key) => {
    results.set(key, { state: "running" });
    draw();
    const call = editor.call(columns(), cell(key, key - first));
    try {
      results.set(key, { ...(await post("trial/call", call)), call });
    } catch (error) {
      results.set(key, { error: error.message, call });
    }
    draw();
  };

  const runAll = async () => {
    const waiting = table.cells.map((_, index) => first + index);
    const total = waiting.length;
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (waiting.length > 0) await run(waiting.shift());
      }),
    );
    announce(`${count(total, "row")} run.`);
    await changed();
  };

  const columns = () => [...table.columns, ...ownColumns];

  const addColumn = (event) => {
    event.preventDefault();
    const input = event.currentTarget.querySelector("input");
    const name = input.value.trim();
    if (name && !columns().includes(name)) ownColumns.push(name);
    input.value = "";
    draw();
  };

  return {
    element(clay) {
      table = toTable(clay.rows.map(({ body }) => body));
      first = clay.total - clay.rows.length;
      return h(
        "section",
        { class: "card side clay", "aria-labelledby": "trial-clay", key: "clay" },
        h(
          "header",
          { class: "row between" },
          h("h2", { id: "trial-clay" }, "Clay"),
          pill(clay.simulated ? "simulated table" : "real", clay.simulated ? "is-simulated" : "is-real"),
        ),
        clay.simulated && behavior("clay", "Clay", clay.behavior, changed),
        h(
          "div",
          { class: "row between wrap" },
          h("h3", {}, "Rows", h("span", { class: "count" }, number(clay.total))),
          h(
            "div",
            { class: "row" },
            h(
              "form",
              { class: "row", onsubmit: addColumn },
              h("input", { "aria-label": "Name of a new column", placeholder: "New column", class: "short" }),
              h("button", { class: "small" }, "Add"),
            ),
            h(
              "button",
              { type: "button", class: "primary small", disabled: clay.rows.length === 0, onclick: runAll },
              "Force run all",
            ),
          ),
        ),
        clay.rows.length === 0
          ? empty(
              "No rows yet",
              clay.simulated
                ? "A row appears here when Loops has a new contact."
                : "Clay is real here: its rows are in its own table.",
            )
          : rows(columns(), ownColumns, table.cells.length, first, cell, typed, results, async (key) => {
              await run(key);
              await changed();
            }),
        editor.element(columns(), clay.rows.length > 0 ? cell(first, 0) : null),
      );
    },
  };
}

function rows(columns, own, length, first, cell, typed, results, run) {
  return h(
    "div",
    { class: "scroll sheet-box", tabindex: "0", role: "region", "aria-label": "Rows in Clay", key: "rows" },
    h(
      "table",
      { class: "sheet" },
      h("caption", { class: "visually-hidden" }, "Rows in Clay, with the HTTP API column first"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col", class: "num" }, "#"),
          h("th", { scope: "col", class: "api" }, "HTTP API"),
          columns.map((name) =>
            h("th", { scope: "col", key: name, class: own.includes(name) ? "own" : null }, value(name, 60)),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        Array.from({ length }, (_, index) => {
          const key = first + index;
          const at = cell(key, index);
          return h(
            "tr",
            { key },
            h("th", { scope: "row", class: "num" }, number(key + 1)),
            h(
              "td",
              { class: "api" },
              h(
                "div",
                { class: "row" },
                h(
                  "button",
                  { type: "button", class: "small", "aria-label": `Run row ${key + 1}`, onclick: () => run(key) },
                  "Run",
                ),
                answerCell(key, results.get(key)),
              ),
            ),
            columns.map((name) =>
              h(
                "td",
                { key: name },
                own.includes(name)
                  ? h("input", {
                      "aria-label": `${name} of row ${key + 1}`,
                      oninput: (event) => typed.set(`${key}/${name}`, event.currentTarget.value),
                    })
                  : value(at(name), 300),
              ),
            ),
          );
        }),
      ),
    ),
  );
}

/** The cell, as Clay has it: status and message. A click shows all. */
function answerCell(key, result) {
  if (!result) return h("span", { class: "answer" });
  if (result.state === "running") return h("span", { class: "answer" }, "running …");
  const { text, kind } = cellSays(result);
  return h(
    "button",
    {
      type: "button",
      class: `answer ${kind}`,
      title: text,
      "aria-label": `Row ${key + 1}: ${text.slice(0, 300)}. Show the whole answer`,
      onclick: () => showAnswer(key, result, text),
    },
    text,
  );
}

/** What a cell says about an answer: "200 OK", "202 queued", "400: the sentence". */
export function cellSays({ status, body, error }) {
  if (error) return { text: error, kind: "dead" };
  const answer = parse(body);
  if (status >= 400) return { text: `${status}: ${answer?.message ?? body}`, kind: "dead" };
  if (answer?.status === "dry-run") {
    return {
      text: `${status} dry run${answer.duplicate ? ", sent before" : ""}: ${JSON.stringify(answer.wouldSend)}`,
      kind: "accent",
    };
  }
  if (answer?.duplicate) return { text: `${status} duplicate`, kind: "delivered" };
  return status === 202 ? { text: "202 queued", kind: "waiting" } : { text: `${status} OK`, kind: "delivered" };
}

function showAnswer(key, { status, headers, body, call, error }, text) {
  const answer = parse(body);
  openDialog({
    title: `Row ${key + 1}: ${status ?? "no answer"}`,
    body: h(
      "div",
      { class: "stack" },
      h("p", { class: "lead" }, value(answer?.message ?? (error || text), 400)),
      h("h3", {}, "Request"),
      h(
        "pre",
        { class: "code", tabindex: "0", "aria-label": "Request" },
        h("bdi", {}, `${call.method} ${call.path}\n\n${call.body}`),
      ),
      body !== undefined && [
        h("h3", {}, "Answer"),
        h(
          "pre",
          { class: "code", tabindex: "0", "aria-label": "Answer" },
          h("bdi", {}, answer ? JSON.stringify(answer, null, 2) : body),
        ),
      ],
      headers?.["x-relay-delivery-id"] &&
        status === 202 &&
        h(
          "p",
          {},
          h(
            "a",
            {
              href: `#deliveries/${encodeURIComponent(headers["x-relay-delivery-id"])}`,
              onclick: (event) => event.currentTarget.closest("dialog").close(),
            },
            "What became of it",
          ),
        ),
    ),
  });
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}
