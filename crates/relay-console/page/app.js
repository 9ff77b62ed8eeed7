// The start of the console: the tabs, the theme, and the view that the address names.

import { announce, fill, h } from "./lib/dom.js";
import { followOverview } from "./lib/stream.js";
import { connectView } from "./views/connect.js";
import { deliveriesView } from "./views/deliveries.js";
import { flowView } from "./views/flow.js";
import { trialView } from "./views/trial/view.js";

const VIEWS = {
  flow: { label: "Flow", make: flowView },
  deliveries: { label: "Deliveries", make: deliveriesView },
  connect: { label: "Connect", make: connectView },
  trial: { label: "Trial", make: trialView, only: (overview) => overview.trial },
};
const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

const panel = document.getElementById("view");
const tabs = document.getElementById("tabs");
let overview = null;
let current = null;

/** The view and what follows its name in the address: `#deliveries/ID`, `#deliveries?state=dead`. */
function address() {
  const [, name, rest] = /^#([a-z]+)(.*)$/.exec(location.hash) ?? [null, "flow", ""];
  const known = VIEWS[name] && (!VIEWS[name].only || VIEWS[name].only(overview));
  return known ? { name, rest } : { name: "flow", rest: "" };
}

function showTabs() {
  const { name } = address();
  const shown = Object.entries(VIEWS).filter(([, view]) => !view.only || view.only(overview));
  fill(
    tabs,
    shown.map(([key, view]) =>
      h(
        "a",
        {
          key,
          id: `tab-${key}`,
          href: `#${key}`,
          role: "tab",
          "aria-selected": String(key === name),
          "aria-controls": "view",
          tabindex: key === name ? "0" : "-1",
          onkeydown: moveTab,
        },
        view.label,
      ),
    ),
  );
}

function moveTab(event) {
  const all = [...tabs.children];
  const at = all.indexOf(event.currentTarget);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (event.key === " ") event.currentTarget.click();
  if (to === undefined && event.key !== " ") return;
  event.preventDefault();
  if (to === undefined) return;
  const next = all[(to + all.length) % all.length];
  next.focus();
  next.click();
}

function show() {
  if (!overview) return;
  const { name, rest } = address();
  showTabs();
  panel.setAttribute("aria-labelledby", `tab-${name}`);
  document.title = `${VIEWS[name].label} · ${overview.relay}`;
  if (current?.name !== name) {
    current?.view.leave?.();
    // Each view has an element of its own: what one reads may come after it was left.
    const root = h("div", { class: `view-${name}` });
    panel.replaceChildren(root);
    current = { name, view: VIEWS[name].make(root) };
    current.view.update(overview);
  }
  current.view.go?.(rest);
}

function receive(fresh) {
  const first = overview === null;
  const changed = overview?.trial !== fresh.trial;
  overview = fresh;
  document.getElementById("title").textContent = fresh.relay;
  document.getElementById("title").title = `Version ${fresh.version}`;
  if (first || changed) show();
  else current.view.update(fresh);
}

function connection(text, state) {
  const label = document.getElementById("connection");
  if (label.textContent === text) return;
  const lost = state === "lost" || label.dataset.state === "lost";
  label.textContent = text;
  label.dataset.state = state;
  if (lost) announce(`The relay is ${text}.`);
}

function theme() {
  const button = document.getElementById("theme");
  const names = Object.keys(THEMES);
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[name];
    button.setAttribute("aria-label", THEMES[name]);
    button.title = THEMES[name];
  };
  button.onclick = () => {
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    localStorage.setItem("theme", next);
    set(next);
  };
  const stored = localStorage.getItem("theme");
  set(names.includes(stored) ? stored : "auto");
}

theme();
addEventListener("hashchange", show);
followOverview(receive, connection);
