// The editor of the HTTP API column: method and endpoint, options, and a body with `/Column` in it.

import { asBody, columnName, substitute } from "../../lib/clay.js";
import { h } from "../../lib/dom.js";

const EMAIL = ["email", "Email"];
const CALLS = {
  contact: {
    label: "PUT contacts/update",
    method: "PUT",
    path: "/api/v1/contacts/update",
    body: asBody([EMAIL, ["firstName", "First Name"]]),
    options: ["blank", "long"],
  },
  event: {
    label: "POST events/send",
    method: "POST",
    path: "/api/v1/events/send",
    body: `{\n  "eventName": "enriched",\n  "email": "/Email"\n}`,
    options: ["long"],
  },
  create: {
    label: "POST contacts/create",
    method: "POST",
    path: "/api/v1/contacts/create",
    body: asBody([EMAIL, ["firstName", "First Name"]]),
    options: ["long"],
  },
  email: {
    label: "POST transactional",
    method: "POST",
    path: "/api/v1/transactional",
    body: `{\n  "transactionalId": "cm5r9d0w700b4l80jq2k6xtne",\n  "email": "/Email",\n  "dataVariables": {\n    "name": "/First Name"\n  }\n}`,
    options: [],
  },
  delete: {
    label: "POST contacts/delete",
    method: "POST",
    path: "/api/v1/contacts/delete",
    body: asBody([EMAIL]),
    options: [],
  },
  find: {
    label: "GET contacts/find",
    method: "GET",
    path: "/api/v1/contacts/find",
    query: "email=/Email",
    body: "",
    options: [],
  },
};
const OPTIONS = { blank: ["blank=clear", "Blank cells empty the property"], long: ["long=truncate", "Cut long texts"] };

/** @param {() => void} draw Draws the trial again. */
export function columnEditor(draw) {
  let chosen = "contact";
  let dryRun = false;
  const on = new Set();
  const area = h("textarea", {
    id: "column-body",
    rows: "7",
    spellcheck: "false",
    "aria-describedby": "column-hint",
    oninput: () => draw(),
  });
  area.value = CALLS.contact.body;
  const made = h("div", { key: "made" }, area);

  const insert = (column) => {
    area.setRangeText(`/${column}`, area.selectionStart, area.selectionEnd, "end");
    area.focus();
    draw();
  };

  const path = (columns, cell) => {
    const { path: base, query, options, method } = CALLS[chosen];
    const parameters = [
      query && substitute(query, columns, cell, encodeURIComponent),
      ...options.filter((name) => on.has(name)).map((name) => OPTIONS[name][0]),
      dryRun && method !== "GET" && "dry-run=on",
    ].filter(Boolean);
    return base + (parameters.length ? `?${parameters.join("&")}` : "");
  };

  const check = (label, checked, change) =>
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        checked,
        onchange: (event) => {
          change(event.currentTarget.checked);
          draw();
        },
      }),
      label,
    );

  const call = (columns, cell) => ({
    method: CALLS[chosen].method,
    path: path(columns, cell),
    body: substitute(area.value, columns, cell),
  });

  return {
    /** The request that a row makes. */
    call,
    /** @param {((column: string) => string)|null} firstRow The cells of the first row, for the preview. */
    element(columns, firstRow) {
      const { options, method } = CALLS[chosen];
      return h(
        "section",
        { class: "column-editor", "aria-labelledby": "column-title", key: "editor" },
        h("h3", { id: "column-title" }, "HTTP API column"),
        h(
          "label",
          { class: "field" },
          h("span", {}, "Method and endpoint"),
          h(
            "select",
            {
              onchange: (event) => {
                chosen = event.currentTarget.value;
                area.value = CALLS[chosen].body;
                draw();
              },
            },
            Object.entries(CALLS).map(([key, { label }]) => h("option", { value: key }, label)),
          ),
        ),
        h(
          "div",
          { class: "row wrap" },
          method !== "GET" &&
            check("Dry run", dryRun, (value) => {
              dryRun = value;
            }),
          options.map((name) =>
            check(OPTIONS[name][1], on.has(name), (value) => {
              if (value) on.add(name);
              else on.delete(name);
            }),
          ),
        ),
        h(
          "div",
          { class: method === "GET" ? "hidden" : "" },
          h("label", { for: "column-body" }, "Body"),
          made.isConnected ? h("div", { key: "made", "data-own": true }) : made,
          h(
            "p",
            { class: "faint", id: "column-hint" },
            columns.length
              ? "Click a column to insert it:"
              : `Columns are inserted as /${columnName("firstName")}. They come with the first row.`,
          ),
          h(
            "div",
            { class: "chips" },
            columns.map((column) =>
              h(
                "button",
                { type: "button", class: "chip", key: column, onclick: () => insert(column) },
                h("bdi", { class: "clip" }, `/${column}`),
              ),
            ),
          ),
        ),
        firstRow && preview(call(columns, firstRow)),
      );
    },
  };
}

function preview({ method, path, body }) {
  return h(
    "details",
    { class: "as-table" },
    h("summary", {}, "What the first row sends"),
    h(
      "pre",
      { class: "code", tabindex: "0", "aria-label": "What the first row sends" },
      h("bdi", {}, `${method} ${path}${body ? `\n\n${body}` : ""}`),
    ),
  );
}
