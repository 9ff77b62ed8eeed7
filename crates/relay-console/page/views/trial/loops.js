// The trial's Loops: an audience, and the events and e-mails that it got.

import { post } from "../../lib/api.js";
import { announce, h } from "../../lib/dom.js";
import { number, time } from "../../lib/format.js";
import { empty, pill, value } from "../../lib/parts.js";
import { behavior } from "./behavior.js";

const SHOWN = 30;
/** Fields of a contact that stand in columns of their own, or say nothing here. */
const APART = new Set([
  "id",
  "email",
  "firstName",
  "lastName",
  "source",
  "subscribed",
  "optInStatus",
  "mailingLists",
  "userGroup",
]);

/** @param {() => Promise<void>} changed After something was created. */
export function audience(changed) {
  const extra = h("div", { class: "stack extra", "data-own": true });
  const said = h("p", { class: "said", role: "status", "data-own": true });
  const form = h(
    "form",
    { class: "create", autocomplete: "off", onsubmit: (event) => create(event) },
    h(
      "div",
      { class: "pair tight" },
      h(
        "label",
        { class: "field" },
        h("span", {}, "E-mail"),
        h("input", {
          name: "email",
          type: "text",
          inputmode: "email",
          required: true,
          placeholder: "ada@example.com",
          spellcheck: "false",
        }),
      ),
      h(
        "label",
        { class: "field" },
        h("span", {}, "First name"),
        h("input", { name: "firstName", placeholder: "Ada" }),
      ),
    ),
    extra,
    h(
      "div",
      { class: "row between" },
      h("button", { type: "button", class: "small", onclick: addProperty }, "Add a property"),
      h("button", { class: "primary" }, "Create contact"),
    ),
    said,
  );

  function addProperty() {
    const name = h("input", {
      "aria-label": "Name of the property",
      placeholder: "companyName",
      class: "name",
      spellcheck: "false",
    });
    extra.append(
      h(
        "div",
        { class: "pair tight" },
        name,
        h("input", { "aria-label": "Its value", placeholder: "Analytical Engines", class: "text" }),
      ),
    );
    name.focus();
  }

  async function create(event) {
    event.preventDefault();
    const contact = { email: form.elements.email.value.trim() };
    if (form.elements.firstName.value) contact.firstName = form.elements.firstName.value;
    for (const pair of extra.children) {
      const [name, text] = [...pair.querySelectorAll("input")].map((input) => input.value);
      if (name.trim()) contact[name.trim()] = typed(text);
    }
    try {
      const { status, body } = await post("trial/contacts", contact);
      const queued = status === 200;
      say(
        queued
          ? "Created. Loops sent a signed webhook, and the relay answered 200."
          : `The relay answered ${status}: ${body?.message ?? ""}`,
        !queued,
      );
      form.reset();
      extra.replaceChildren();
      form.elements.email.focus();
      await changed();
    } catch (error) {
      say(error.message, true);
    }
  }

  function say(text, wrong) {
    said.className = wrong ? "said error" : "said";
    said.textContent = text;
    if (!wrong) announce(text);
  }

  const made = h("div", { key: "made" }, form);
  return {
    element(loops) {
      return h(
        "section",
        { class: "card side", "aria-labelledby": "trial-loops", key: "loops" },
        h(
          "header",
          { class: "row between" },
          h("h2", { id: "trial-loops" }, "Loops"),
          pill(loops.simulated ? "simulated audience" : "real", loops.simulated ? "is-simulated" : "is-real"),
        ),
        loops.simulated
          ? simulated(loops)
          : empty("Loops is real here", "The trial leaves it alone: it creates no contacts there, and runs no rows."),
      );
    },
  };

  function simulated(loops) {
    return [
      behavior("loops", "Loops", loops.behavior, changed),
      made.isConnected ? h("div", { key: "made", "data-own": true }) : made,
      h("h3", {}, "Audience", h("span", { class: "count" }, number(loops.contacts.length))),
      loops.contacts.length === 0
        ? empty("Nobody yet", "Create a contact: its row appears in Clay.")
        : h(
            "div",
            { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Audience" },
            h("ul", { class: "contacts" }, loops.contacts.map(contact)),
          ),
      received("Events", loops.events, "An event column in Clay sends them."),
      loops.emails.length > 0 && received("E-mails", loops.emails, ""),
    ];
  }
}

function contact(each) {
  const name = [each.firstName, each.lastName].filter(Boolean).join(" ");
  const more = Object.entries(each).filter(([key, shown]) => !APART.has(key) && shown !== null && shown !== "");
  return h(
    "li",
    { key: each.id ?? each.email },
    h(
      "p",
      { class: "row between" },
      h("b", { class: "clip" }, value(each.email, 120)),
      name && h("span", { class: "clip" }, value(name, 60)),
    ),
    more.length > 0 &&
      h(
        "p",
        { class: "properties" },
        more.map(([key, shown]) =>
          h("span", { class: "property", key }, h("span", { class: "faint clip" }, key), " ", value(String(shown), 60)),
        ),
      ),
  );
}

function received(title, all, hint) {
  return h(
    "div",
    { key: title },
    h("h3", {}, title, h("span", { class: "count" }, number(all.length))),
    all.length === 0
      ? h("p", { class: "faint" }, hint)
      : h(
          "ul",
          { class: "contacts" },
          all
            .slice(-SHOWN)
            .reverse()
            .map(({ idempotencyKey, receivedAt, body }, index) => {
              const sent = parsed(body);
              return h(
                "li",
                { key: idempotencyKey ?? index },
                h(
                  "p",
                  { class: "row between" },
                  h("b", { class: "clip" }, value(sent.eventName ?? sent.transactionalId ?? "", 60)),
                  h("time", { class: "faint" }, time(receivedAt)),
                ),
                h("p", { class: "faint clip" }, value(sent.email ?? sent.userId ?? "", 120)),
              );
            }),
        ),
    all.length > SHOWN && h("p", { class: "faint" }, `The last ${SHOWN}`),
  );
}

function parsed(body) {
  if (typeof body !== "string") return body ?? {};
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}

/** A number or true and false where the text is one. */
function typed(text) {
  if (text === "true" || text === "false") return text === "true";
  return text !== "" && /^-?\d{1,15}(\.\d+)?$/.test(text) ? Number(text) : text;
}
