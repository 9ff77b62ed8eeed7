// Deliveries: the list, its filters, and the way to each one's story.

import { get, query } from "../lib/api.js";
import { coalesced } from "../lib/coalesce.js";
import { announce, fill, h } from "../lib/dom.js";
import { number, time } from "../lib/format.js";
import { empty, errorText, statePill } from "../lib/parts.js";
import { DIRECTIONS, kindText, reasonText } from "../lib/words.js";
import { deadLetterAct } from "./acts.js";
import { openDelivery } from "./delivery.js";
import { NOTHING, filters, finder } from "./filters.js";

const PAGE = 50;

/** @param {HTMLElement} root */
export function deliveriesView(root) {
  let filter = { ...NOTHING };
  let keys = [null];
  let page = { deliveries: [], next: null };
  let failed = null;
  let loaded = false;
  let seen = "";
  let panel = null;
  let latest = 0;
  let trial = false;
  let polled = false;

  const read = async () => {
    const asked = (latest += 1);
    try {
      const answer = await get(`deliveries?${query({ ...filter, limit: PAGE, after: keys.at(-1) })}`);
      if (asked !== latest) return;
      page = answer;
      failed = null;
      loaded = true;
    } catch (error) {
      if (asked !== latest) return;
      failed = error;
    }
    draw();
  };
  const refresh = coalesced(read);

  const apply = (changes) => {
    filter = { ...filter, ...changes };
    keys = [null];
    draw();
    read().then(() =>
      announce(`${number(page.deliveries.length)}${page.deliveries.length === PAGE ? " or more" : ""} deliveries.`),
    );
  };

  const turn = (next) => {
    keys = next;
    read().then(() => root.querySelector(".list")?.scrollIntoView({ block: "nearest" }));
  };

  const draw = () => {
    // A store that searches gives short pages too; any other one has a short page at its end.
    const older =
      page.next && page.deliveries.length > 0 && (page.deliveries.length === PAGE || filter.reason || polled);
    const filtered = Object.values(filter).some(Boolean);
    fill(
      root,
      h("div", { class: "filters", role: "search", "aria-label": "Filter deliveries" }, filters(filter, apply)),
      finder(filter, apply),
      failed && errorText(failed),
      h(
        "section",
        { class: "card list", "aria-labelledby": "list-title" },
        h(
          "header",
          { class: "row between" },
          h("h2", { id: "list-title" }, filtered ? "Matching deliveries" : "Latest deliveries"),
          filter.state === "dead" && page.deliveries.length > 0 && !filter.contact && !filter.id && bulk(filter, read),
        ),
        page.deliveries.length > 0
          ? table(page.deliveries)
          : loaded &&
              h(
                "div",
                { key: "empty" },
                keys.length > 1
                  ? empty("Nothing older")
                  : filtered
                    ? empty(
                        "Nothing matches",
                        h("button", { type: "button", onclick: () => apply(NOTHING) }, "Clear the filters"),
                      )
                    : empty(
                        "Nothing yet",
                        "What comes from Loops or Clay is listed here. ",
                        h(
                          "a",
                          { href: trial ? "#trial" : "#connect" },
                          trial ? "Try it with a contact of your own" : "See what is connected",
                        ),
                        ".",
                      ),
              ),
        (keys.length > 1 || older) &&
          h(
            "footer",
            { class: "row between" },
            h(
              "button",
              { type: "button", disabled: keys.length === 1, onclick: () => turn(keys.slice(0, -1)) },
              "← Newer",
            ),
            h("button", { type: "button", disabled: !older, onclick: () => turn([...keys, page.next]) }, "Older →"),
          ),
      ),
    );
    // What somebody has chosen or typed is a property, which attributes do not change.
    for (const field of root.querySelectorAll("[data-filter]")) {
      if (field !== document.activeElement || field.tagName === "SELECT") field.value = filter[field.dataset.filter];
    }
  };

  draw();
  return {
    update(overview) {
      trial = overview.trial;
      polled = overview.pollSeconds !== null;
      // Whatever changes a delivery changes one of these; where they are not counted, time alone does.
      const numbers = overview.directions.map((each) => [
        each.accepted,
        each.delivered,
        each.waiting,
        each.held,
        each.deadLetters,
      ]);
      const now = JSON.stringify([numbers, overview.directions[0].accepted === null && overview.at]);
      if (now === seen) return;
      seen = now;
      if (keys.length === 1) refresh();
    },
    go(rest) {
      if (rest.startsWith("?")) {
        const wanted = Object.fromEntries(new URLSearchParams(rest));
        apply({
          ...NOTHING,
          ...Object.fromEntries(Object.entries(wanted).filter(([name]) => name in NOTHING && name !== "contact")),
        });
      } else if (rest.startsWith("/")) {
        panel?.close();
        panel = openDelivery(decodeURIComponent(rest.slice(1)), () => {
          panel = null;
          if (location.hash === `#deliveries${rest}`) history.replaceState(null, "", "#deliveries");
          read();
        });
      } else {
        panel?.close();
      }
    },
    leave() {
      latest += 1;
      panel?.close();
    },
  };
}

function bulk({ reason, direction }, read) {
  const selection = { ...(reason ? { reason } : { all: true }), ...(direction ? { direction } : {}) };
  const name = reason ? reasonText(reason) : "all dead letters";
  const where = direction ? `${name}, ${DIRECTIONS[direction].label}` : name;
  return h(
    "span",
    { class: "row" },
    h(
      "button",
      { type: "button", class: "small", onclick: () => deadLetterAct("retry", selection, where, read) },
      "Retry all …",
    ),
    h(
      "button",
      { type: "button", class: "small danger", onclick: () => deadLetterAct("drop", selection, where, read) },
      "Drop all …",
    ),
  );
}

function table(deliveries) {
  return h(
    "table",
    { class: "deliveries", key: "table" },
    h("caption", { class: "visually-hidden" }, "Deliveries, the newest first"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["State", "What", "Direction", "Accepted", "Attempts", "Why"].map((text) =>
          h("th", { scope: "col", class: text === "Attempts" ? "num" : null }, text),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      deliveries.map((delivery) => {
        const href = `#deliveries/${encodeURIComponent(delivery.id)}`;
        const at = delivery.receivedAt ?? delivery.firstAttemptAt ?? delivery.settledAt;
        return h(
          "tr",
          {
            key: delivery.id,
            onclick: (event) => {
              if (!event.target.closest("a")) event.currentTarget.querySelector("a").click();
            },
          },
          h("td", {}, statePill(delivery)),
          h(
            "td",
            {},
            h("a", { href, title: delivery.id }, kindText(delivery)),
            h("code", { class: "id" }, delivery.id),
          ),
          h("td", { class: "nowrap" }, DIRECTIONS[delivery.direction].label),
          h("td", { class: "nowrap" }, at ? h("time", { datetime: at, title: at }, time(at)) : "–"),
          h("td", { class: "num" }, number(delivery.attempts)),
          h(
            "td",
            { class: "why" },
            delivery.reason ? [delivery.status ? `${delivery.status}: ` : "", reasonText(delivery.reason)] : "",
          ),
        );
      }),
    ),
  );
}
