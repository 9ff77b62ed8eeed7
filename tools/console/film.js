// Draws the moving picture of the README from a run of the trial.
//   node tools/console/film.js FOLDER
//
// A relay is started, and the page is used as a reader would: a contact becomes a row; Clay breaks, and three wait; Clay works again,
// and the three arrive. What is drawn is what the page showed, in the order in which it did. Only the pace is the picture's own.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { launch, open, until } from "./browser.js";
import { drawFilm } from "./film_drawing.js";
import { startRelay } from "./relay.js";

const NAMES = ["Ada", "Grace", "Alan", "Mary"];
const [folder = "docs/images"] = process.argv.slice(2);
const stops = [];

const browser = await launch();
try {
  const relay = await startRelay({ after: (stop) => stops.push(stop) });
  const { page } = await open(browser, `${relay.url}#trial`);
  await page.locator("#trial-clay").waitFor();
  writeFileSync(join(folder, "trial.svg"), drawFilm(await record(page)));
} finally {
  await browser.close();
  for (const stop of stops.reverse()) await stop();
}

/** Runs the trial, and returns what happened, in order: what, and of whom. */
async function record(page) {
  const seen = [];
  const rowNames = async () => {
    const text = await page.locator(".sheet tbody").allInnerTexts();
    return NAMES.filter((name) => text.join().includes(`${name.toLowerCase()}@example.com`));
  };
  const create = async (name) => {
    await page.getByLabel("E-mail").fill(`${name.toLowerCase()}@example.com`);
    await page.getByLabel("First name").fill(name);
    await page.getByRole("button", { name: "Create contact" }).click();
    await until(async () => (await page.getByLabel("E-mail").inputValue()) === "", `${name} is created`);
    seen.push({ what: "created", name });
  };
  const behave = async (behavior, what) => {
    await page.getByRole("button", { name: `${behavior}: Clay` }).click();
    await page.locator(`button[aria-pressed="true"][aria-label^="${behavior}: Clay"]`).waitFor();
    seen.push({ what });
  };
  const waiting = async () => page.locator(".mini.loops-to-clay").getByRole("link", { name: "Waiting: " }).textContent();
  const arrive = async (names) => {
    const left = new Set(names);
    await until(async () => {
      for (const name of await rowNames()) if (left.delete(name)) seen.push({ what: "arrived", name });
      return left.size === 0;
    }, `the rows of ${names.join(", ")} arrive`);
  };

  const [first, ...others] = NAMES;
  await create(first);
  await arrive([first]);
  await behave("500", "broken");
  for (const name of others) await create(name);
  await until(async () => (await waiting()) === String(others.length), "the others wait");
  if ((await rowNames()).length !== 1) throw new Error("a row arrived at a Clay that answers 500");
  seen.push({ what: "waiting" });
  await behave("Normal", "mended");
  await arrive(others);
  await until(async () => (await waiting()) === "0", "nothing waits");
  const rows = await page.locator(".sheet tbody tr").count();
  if (rows !== NAMES.length) throw new Error(`${NAMES.length} contacts became ${rows} rows`);
  return [...seen, { what: "end" }];
}
