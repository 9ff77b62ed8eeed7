// Takes the pictures of the console that the README shows.
//   node tools/console/screenshots.js FOLDER
//
// Flow, Deliveries and Connect show the made-up documents of fixtures.js at a fixed time: an hour of a busy relay cannot be had in
// seconds. The trial is a real run.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { launch, open, until } from "./browser.js";
import * as fixtures from "./fixtures.js";
import { startMock } from "./mock.js";
import { startRelay } from "./relay.js";

const [folder = "docs/images"] = process.argv.slice(2);
const AT = new Date("2026-01-31T14:20:30Z");
const WIDE = { width: 1280, height: 900 };
const stops = [];

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  Date.now = () => AT.getTime();
  const mock = await startMock(fixtures.busy());
  Date.now = () => performance.timeOrigin + performance.now();
  stops.push(() => mock.close());
  await take(mock.url, "console-light", { hash: "", ready: ".hour" });
  await take(mock.url, "console-dark", { hash: "", ready: ".hour", colorScheme: "dark" });
  await take(mock.url, "console-narrow", { hash: "", ready: ".hour", viewport: { width: 360, height: 780 } });
  await take(mock.url, "console-connect", {
    hash: "#connect",
    ready: "#body-PUT",
    viewport: { width: 1100, height: 1150 },
  });
  await take(mock.url, "console-delivery", {
    hash: "#deliveries",
    ready: ".deliveries",
    act: openDelivery,
    viewport: { width: 1100, height: 770 },
  });

  const relay = await startRelay({ after: (stop) => stops.push(stop) });
  await take(relay.url, "console-trial", {
    hash: "#trial",
    ready: "#trial-clay",
    act: tryIt,
    fixed: false,
    viewport: { width: 1280, height: 840 },
  });
} finally {
  await browser.close();
  for (const stop of stops.reverse()) await stop();
}

async function take(url, name, { hash, ready, act = async () => {}, fixed = true, ...options }) {
  const { page, trouble } = await open(browser, "about:blank", {
    waitForTabs: false,
    viewport: WIDE,
    timezoneId: "UTC",
    reducedMotion: "reduce",
    ...options,
  });
  if (fixed) await page.clock.setFixedTime(AT);
  await page.goto(url + hash);
  await page.locator(ready).waitFor();
  await act(page);
  const wrong = trouble.filter((each) => !each.startsWith("request: "));
  if (wrong.length) throw new Error(`${name}: ${wrong.join("; ")}`);
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(folder, `${name}.png`), animations: "disabled", caret: "hide" });
  await page.context().close();
}

async function openDelivery(page) {
  await page.locator('.deliveries a[href="#deliveries/contact_01JD8W2N760"]').click();
  await page.getByRole("dialog").getByText("Accepted by the relay").waitFor();
}

/** Three contacts; one row is updated, one is refused, and one waits, because Loops fails. */
async function tryIt(page) {
  for (const [index, [name, company]] of [
    ["Ada", "Analytical Engines"],
    ["Grace", "Eckert Computers"],
    ["Alan", "Bletchley Park"],
  ].entries()) {
    await page.getByLabel("E-mail").fill(`${name.toLowerCase()}@example.com`);
    await page.getByLabel("First name").fill(name);
    await page.getByRole("button", { name: "Add a property" }).click();
    await page.getByLabel("Name of the property").fill("companyName");
    await page.getByLabel("Its value").fill(company);
    await page.getByRole("button", { name: "Create contact" }).click();
    await until(async () => (await page.locator(".sheet tbody tr").count()) === index + 1, "the row arrives");
  }
  const body = page.locator("#column-body");
  await body.fill('{\n  "email": "/Email",\n  "firstName": "/First Name",\n  "plan": "pro"\n}');
  await run(page, 1, "200 OK");
  await body.fill('{\n  "email": "/Mail",\n  "firstName": "/First Name"\n}');
  await run(page, 3, "400: email");
  await page.getByRole("button", { name: "500: Loops" }).click();
  await page.locator('button[aria-pressed="true"][aria-label^="500: Loops"]').waitFor();
  await body.fill('{\n  "email": "/Email",\n  "firstName": "/First Name",\n  "companyName": "/Company Name"\n}');
  await run(page, 2, "202 queued");
  await page.getByRole("heading", { name: "Clay", exact: true }).click();
}

async function run(page, number, says) {
  await page.getByRole("button", { name: `Run row ${number}`, exact: true }).click();
  await page
    .getByRole("button", { name: new RegExp(`^Row ${number}: `) })
    .filter({ hasText: says })
    .waitFor();
}
