// The trial of a real relay: a contact's row, a column's answer, a destination that breaks, a dead letter.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import axe from "axe-core";

import { launch, open, overflow, seriousFindings, until } from "./browser.js";
import { startRelay } from "./relay.js";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Starts a relay and opens its trial; nothing may have gone wrong on the page when the test ends. */
async function openTrial(context, options) {
  const relay = await startRelay(context);
  const { page, trouble } = await open(browser, `${relay.url}#trial`, options);
  await page.locator("#trial-clay").waitFor();
  context.after(() => page.context().close());
  return { relay, page, calm: () => assert.deepEqual(trouble, []) };
}

async function create(page, email, firstName, properties = {}) {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("First name").fill(firstName);
  for (const [name, text] of Object.entries(properties)) {
    await page.getByRole("button", { name: "Add a property" }).click();
    await page.getByLabel("Name of the property").last().fill(name);
    await page.getByLabel("Its value").last().fill(text);
  }
  await page.getByRole("button", { name: "Create contact" }).click();
  await until(async () => (await page.getByLabel("E-mail").inputValue()) === "", `${email} is created`);
}

const rows = (page) => page.locator(".sheet tbody tr");
const cell = (page, number) => page.getByRole("button", { name: new RegExp(`^Row ${number}: `) });
const body = (page) => page.locator("#column-body");

async function rowArrives(page, number, text) {
  await rows(page)
    .nth(number - 1)
    .getByText(text, { exact: true })
    .first()
    .waitFor();
}

async function run(page, number, expected) {
  await page.getByRole("button", { name: `Run row ${number}`, exact: true }).click();
  await cell(page, number).filter({ hasText: expected }).waitFor();
}

async function behave(page, destination, behavior) {
  await page.getByRole("button", { name: `${behavior}: ${destination}` }).click();
  await page.locator(`button[aria-pressed="true"][aria-label^="${behavior}: ${destination}"]`).waitFor();
}

const miniState = (page, direction, label) =>
  page
    .locator(`.mini.${direction}`)
    .getByRole("link", { name: `${label}: ` })
    .textContent();

test("a contact that is created in Loops is a row in Clay", async (context) => {
  const { page, calm } = await openTrial(context);
  await create(page, "ada@example.com", "Ada");
  await rowArrives(page, 1, "ada@example.com");
  await page.getByRole("columnheader", { name: "First Name" }).waitFor();
  calm();
});

test("a row that is run updates its contact", async (context) => {
  const { page, calm } = await openTrial(context);
  await create(page, "ada@example.com", "Ada");
  await rowArrives(page, 1, "ada@example.com");
  await page.getByLabel("Name of a new column").fill("Company");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByLabel("Company of row 1").fill("Analytical Engines");
  await body(page).fill('{"email": "/Email", "companyName": "/Company"}');
  await run(page, 1, "200 OK");
  await page.locator(".contacts .property").getByText("Analytical Engines").waitFor();
  calm();
});

test("a dry run shows what would be sent, and sends nothing", async (context) => {
  const { page, calm } = await openTrial(context);
  await create(page, "ada@example.com", "Ada");
  await rowArrives(page, 1, "ada@example.com");
  await page.getByLabel("Dry run").check();
  await body(page).fill('{"email": "/Email", "plan": "pro"}');
  await run(page, 1, '200 dry run: {"email":"ada@example.com","plan":"pro"}');
  assert.equal(await page.locator(".contacts .property").count(), 0);
  calm();
});

test("a refused row shows the field and the sentence", async (context) => {
  const { page, calm } = await openTrial(context);
  await create(page, "ada@example.com", "Ada");
  await rowArrives(page, 1, "ada@example.com");
  await body(page).fill('{"email": "/Mail", "firstName": "/First Name"}');
  await run(page, 1, "400: email");
  await cell(page, 1).click();
  await page.getByRole("dialog").getByText("column_not_inserted").waitFor();
  await page.keyboard.press("Escape");
  calm();
});

test("what waits while Clay fails arrives when it is well again", async (context) => {
  const { page, calm } = await openTrial(context);
  await behave(page, "Clay", "500");
  for (const name of ["Ada", "Grace", "Alan"]) await create(page, `${name.toLowerCase()}@example.com`, name);
  await until(async () => (await miniState(page, "loops-to-clay", "Waiting")) === "3", "three deliveries wait");
  assert.equal(await rows(page).count(), 0);
  await behave(page, "Clay", "Normal");
  await until(async () => (await rows(page).count()) === 3, "three rows arrive");
  await until(async () => (await miniState(page, "loops-to-clay", "Waiting")) === "0", "nothing waits");
  calm();
});

test("an event is sent once, however often its row is run", async (context) => {
  const { page, calm } = await openTrial(context);
  await create(page, "ada@example.com", "Ada");
  await rowArrives(page, 1, "ada@example.com");
  await page.getByLabel("Method and endpoint").selectOption({ label: "POST events/send" });
  await run(page, 1, "200 OK");
  await page.getByRole("button", { name: "Force run all" }).click();
  await cell(page, 1).filter({ hasText: "200 duplicate" }).waitFor();
  calm();
});

test("a dead letter is retried after its cause is fixed", async (context) => {
  const { page, calm } = await openTrial(context);
  await create(page, "ada@example.com", "Ada", { userId: "user-1" });
  await rowArrives(page, 1, "ada@example.com");
  await create(page, "grace@example.com", "Grace");
  await rowArrives(page, 2, "grace@example.com");
  // Grace gets the id that Ada has: Loops refuses that, once it answers again.
  await behave(page, "Loops", "500");
  await body(page).fill('{"email": "/Email", "userId": "user-1"}');
  await run(page, 2, "202 queued");
  await behave(page, "Loops", "Normal");
  await until(async () => (await miniState(page, "clay-to-loops", "Dead")) === "1", "the row is a dead letter");
  await page.getByLabel("Method and endpoint").selectOption({ label: "POST contacts/delete" });
  await run(page, 1, "200 OK");

  await page.getByRole("tab", { name: "Flow" }).click();
  await page.getByRole("button", { name: "Retry …" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Retry 1" }).click();
  await page.getByRole("dialog").getByText("1 dead letter sent again.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("No dead letters").waitFor();
  await page.getByRole("tab", { name: "Trial" }).click();
  await page.locator(".contacts .property").getByText("user-1").waitFor();
  calm();
});

test("one delivery has its story, and its body after a click", async (context) => {
  const { page, calm } = await openTrial(context);
  await behave(page, "Clay", "500");
  await create(page, "ada@example.com", "Ada");
  await page.getByRole("tab", { name: "Deliveries" }).click();
  await page.getByLabel("Find a contact").fill("ada@example.com");
  await page.getByRole("button", { name: "Find", exact: true }).click();
  await page.locator(".deliveries a").click();
  await page.getByRole("dialog").getByText("Accepted by the relay").waitFor();
  assert.equal(await page.getByText("ada@example.com").count(), 0);
  await page.getByRole("button", { name: "Show body" }).click();
  await page.getByRole("dialog").locator("pre").getByText("ada@example.com").waitFor();
  await page.keyboard.press("Escape");
  calm();
});

test("a direction that is paused keeps its deliveries until it is resumed", async (context) => {
  const { page, calm } = await openTrial(context);
  await page.getByRole("tab", { name: "Flow" }).click();
  await page.getByRole("button", { name: "Pause Loops to Clay …" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
  await page
    .locator(".lane.loops-to-clay")
    .getByText(/^Paused/)
    .waitFor();
  await page.getByRole("tab", { name: "Trial" }).click();
  await create(page, "ada@example.com", "Ada");
  await until(async () => (await miniState(page, "loops-to-clay", "Waiting")) === "1", "the delivery waits");
  await page.getByRole("tab", { name: "Flow" }).click();
  await page.getByRole("button", { name: "Resume Loops to Clay …" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Resume" }).click();
  await page.getByRole("tab", { name: "Trial" }).click();
  await rowArrives(page, 1, "ada@example.com");
  calm();
});

test("hostile names go through the relay as texts", async (context) => {
  const { page, calm } = await openTrial(context, { viewport: { width: 360, height: 740 } });
  const names = ["<img src=x onerror=alert(1)>", "\u202Egnp.exe", `long ${"x".repeat(450)}`];
  for (const [index, name] of names.entries()) await create(page, `contact${index}@example.com`, name);
  await rowArrives(page, 3, "contact2@example.com");
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await overflow(page), 0);
  for (const tab of ["Flow", "Deliveries", "Connect"]) {
    await page.getByRole("tab", { name: tab }).click();
    await page.locator("main h2").first().waitFor();
    assert.equal(await overflow(page), 0);
  }
  calm();
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing serious on a real relay: ${colorScheme}`, async (context) => {
    const { page, calm } = await openTrial(context, { colorScheme, reducedMotion: "reduce" });
    await create(page, "ada@example.com", "Ada");
    await rowArrives(page, 1, "ada@example.com");
    await run(page, 1, "200 OK");
    for (const [tab, ready] of [
      ["Trial", "#trial-clay"],
      ["Flow", ".hour"],
      ["Deliveries", ".deliveries"],
      ["Connect", "#body-PUT"],
    ]) {
      await page.getByRole("tab", { name: tab }).click();
      await page.locator(ready).waitFor();
      assert.deepEqual(await seriousFindings(page, axe.source), [], tab);
    }
    await page.getByRole("button", { name: "Examine" }).click();
    await page.locator(".findings li").first().waitFor();
    assert.deepEqual(await seriousFindings(page, axe.source), [], "doctor");
    calm();
  });
}
