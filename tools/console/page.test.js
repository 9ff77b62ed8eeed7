// The page alone, with made-up documents: states that are hard to reach, names that are hostile, keyboard, and axe.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import axe from "axe-core";

import { launch, open, overflow, seriousFindings, until } from "./browser.js";
import * as fixtures from "./fixtures.js";
import { startMock } from "./mock.js";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Opens the page with these documents, and closes it after the test; nothing may have gone wrong on it then. */
async function show(context, state, { hash = "", relayToken, allowed = [], ...options } = {}) {
  const mock = await startMock(state, { relayToken });
  const opened = await open(browser, mock.url + hash, { waitForTabs: !relayToken, ...options });
  context.after(async () => {
    await opened.page.context().close();
    await mock.close();
  });
  return {
    ...opened,
    mock,
    calm: () =>
      assert.deepEqual(
        opened.trouble.filter((each) => !allowed.some((text) => each.includes(text))),
        [],
      ),
  };
}

const VIEWS = {
  flow: "#hour-title",
  deliveries: ".list h2",
  connect: "#clay-title",
  trial: "#trial-clay",
};

for (const scheme of ["light", "dark"]) {
  for (const [name, ready] of Object.entries(VIEWS)) {
    for (const state of ["busy", "fresh"]) {
      test(`axe finds nothing serious: ${name}, ${state}, ${scheme}`, async (context) => {
        const { page, calm } = await show(context, fixtures[state](), {
          hash: `#${name}`,
          colorScheme: scheme,
          reducedMotion: "reduce",
        });
        await page.locator(ready).waitFor();
        assert.deepEqual(await seriousFindings(page, axe.source), []);
        calm();
      });
    }
  }

  test(`axe finds nothing serious: a delivery, ${scheme}`, async (context) => {
    const { page } = await show(context, fixtures.busy(), {
      hash: "#deliveries/contact_01JD8W2N4100",
      colorScheme: scheme,
      reducedMotion: "reduce",
    });
    await page.getByRole("button", { name: "Show body" }).click();
    await page.locator("dialog pre").waitFor();
    assert.deepEqual(await seriousFindings(page, axe.source), []);
  });

  test(`axe finds nothing serious: a dry run of a retry, ${scheme}`, async (context) => {
    const { page } = await show(context, fixtures.busy(), { colorScheme: scheme, reducedMotion: "reduce" });
    await page.getByRole("button", { name: "Retry …" }).first().click();
    await page.getByRole("button", { name: "Retry 1" }).waitFor();
    assert.deepEqual(await seriousFindings(page, axe.source), []);
  });
}

for (const name of Object.keys(VIEWS)) {
  test(`no view is wider than a narrow window: ${name}`, async (context) => {
    const { page } = await show(context, fixtures.busy(), { hash: `#${name}`, viewport: { width: 360, height: 740 } });
    await page.locator(VIEWS[name]).waitFor();
    assert.equal(await overflow(page), 0);
  });
}

test("hostile names are texts and do not widen the page", async (context) => {
  const names = [
    "<img src=x onerror=alert(1)>",
    "\u202Egnp.exe\u202E",
    "x".repeat(10_000),
    "<script>alert(2)</script>",
    "&quot;'\"><svg onload=alert(3)>",
  ];
  const state = fixtures.busy();
  state.trial.loops.contacts = names.map((name, index) => ({
    id: `c${index}`,
    email: `${name}@example.com`,
    firstName: name,
    [name]: name,
  }));
  state.trial.loops.events = names.map((name, index) => ({
    idempotencyKey: `k${index}`,
    receivedAt: new Date().toISOString(),
    body: { eventName: name, email: name },
  }));
  state.trial.clay.rows = names.map((name) => ({
    webhook: "w",
    receivedAt: new Date().toISOString(),
    body: { contact: { email: name, [name]: name } },
  }));
  state.trial.clay.total = names.length;
  const { page, calm } = await show(context, state, { hash: "#trial", viewport: { width: 360, height: 740 } });
  await page.locator(".sheet tbody tr").nth(4).waitFor();
  assert.equal(await page.locator("main img, main script").count(), 0);
  assert.equal(await overflow(page), 0);
  assert.ok((await page.getByText("<img src=x onerror=alert(1)>", { exact: true }).count()) > 0);
  assert.ok((await page.getByText("10000 characters").count()) > 0);
  calm();
});

test("the keyboard opens a delivery, and Escape gives the focus back", async (context) => {
  const { page, calm } = await show(context, fixtures.busy(), { hash: "#deliveries" });
  await page.locator(".deliveries tbody tr").first().waitFor();
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("href"));
  const wanted = "#deliveries/contact_01JD8W2N20";
  for (let steps = 0; steps < 60 && (await focused()) !== wanted; steps += 1) await page.keyboard.press("Tab");
  assert.equal(await focused(), wanted);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByText("Accepted by the relay").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await focused(), wanted);
  assert.equal(new URL(page.url()).hash, "#deliveries");
  calm();
});

test("arrow keys move between the views", async (context) => {
  const { page } = await show(context, fixtures.busy());
  await page.getByRole("tab", { name: "Flow" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("tab", { name: "Deliveries", selected: true }).waitFor();
  await page.keyboard.press("End");
  await page.getByRole("tab", { name: "Trial", selected: true }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Trial");
});

test("a change of numbers leaves the focus where it is", async (context) => {
  const state = fixtures.busy();
  const { page, mock } = await show(context, state);
  await page.getByRole("button", { name: "Pause Loops to Clay …" }).focus();
  const overview = structuredClone(state.overview);
  overview.directions[0].accepted = 4321;
  mock.push(overview);
  await page.getByText("4,321").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Pause Loops to Clay …");
});

test("a direction is paused only after a confirmation", async (context) => {
  const state = fixtures.busy();
  const { page, mock } = await show(context, state);
  await page.getByRole("button", { name: "Pause Clay to Loops …" }).click();
  assert.equal(state.overview.directions[1].paused, false);
  await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  mock.push(state.overview);
  await page.getByText(/Paused since/).waitFor();
});

test("an option of a retry is offered where the dry run names its outcome", async (context) => {
  const { page } = await show(context, fixtures.busy());
  await page.getByRole("button", { name: "Retry …" }).first().click();
  await page.getByRole("button", { name: "Retry 1" }).waitFor();
  await page.getByLabel(/^Even if older/).check();
  await page.getByRole("button", { name: "Retry 2" }).click();
  await page.getByRole("dialog").getByText("2 dead letters sent again.").waitFor();
});

test("a stack is polled, and what it does not count is a dash", async (context) => {
  const { page, calm } = await show(context, fixtures.stack());
  await page.getByText("polling each 10 s").waitFor();
  assert.equal(await page.getByRole("tab", { name: "Trial" }).count(), 0);
  assert.equal(await page.locator(".stage dd", { hasText: "–" }).count(), 6);
  calm();
});

test("a relay that is gone is said, and found again", async (context) => {
  const { page, mock } = await show(context, fixtures.busy());
  const port = Number(new URL(mock.url).port);
  await mock.close();
  await page.locator('#connection[data-state="lost"]').waitFor();
  const again = await startMock(fixtures.busy(), { port });
  context.after(() => again.close());
  await page.locator('#connection[data-state="live"]').waitFor();
});

test("where the relay token is needed the page asks for it", async (context) => {
  const { page, calm } = await show(context, fixtures.busy(), { relayToken: "a-token-of-the-relay", allowed: ["401"] });
  await page.getByRole("textbox", { name: "Relay token" }).fill("a-wrong-token");
  await page.getByRole("button", { name: "Open the console" }).click();
  await page.getByText("That token was refused.").waitFor();
  await page.getByRole("textbox", { name: "Relay token" }).fill("a-token-of-the-relay");
  await page.getByRole("button", { name: "Open the console" }).click();
  await page.getByRole("tab", { name: "Flow" }).waitFor();
  assert.deepEqual(
    await page.evaluate(() => [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie]),
    ["{}", "{}", ""],
  );
  calm();
});

test("an address that is looked up is in no URL and no storage", async (context) => {
  const { page } = await show(context, fixtures.busy(), { hash: "#deliveries" });
  const urls = [];
  page.on("request", (request) => urls.push(request.url()));
  await page.getByLabel("Find a contact").fill("ada@example.com");
  await page.getByRole("button", { name: "Find", exact: true }).click();
  await until(() => urls.some((url) => url.includes("contact=9c1f0ab37e52d4c8")), "the list of the contact is read");
  assert.ok(
    ![...urls, page.url(), await page.evaluate(() => JSON.stringify(localStorage))].some((text) =>
      text.includes("ada"),
    ),
  );
});

test("the body to paste has every property, email first, in quotes", async (context) => {
  const { page } = await show(context, fixtures.busy(), { hash: "#connect" });
  const body = JSON.parse(await page.locator("#body-PUT").textContent());
  assert.deepEqual(Object.entries(body).slice(0, 2), [
    ["email", "/Email"],
    ["firstName", "/First Name"],
  ]);
  assert.equal(body.seats, "/Seats");
  assert.ok(!("subscribed" in body));
});

test("older deliveries are read by their key", async (context) => {
  const state = fixtures.busy();
  const [first] = state.deliveries;
  state.deliveries = Array.from({ length: 120 }, (_, index) => ({ ...first, id: `msg_${index}.contacts` }));
  const { page } = await show(context, state, { hash: "#deliveries" });
  await page.getByRole("button", { name: "Older →" }).click();
  await page.getByText("msg_50.contacts").waitFor();
  assert.equal(await page.locator(".deliveries tbody tr").count(), 50);
  await page.getByRole("button", { name: "← Newer" }).click();
  await page.getByText("msg_0.contacts").waitFor();
});

test("what a view reads after it was left changes nothing", async (context) => {
  const { page } = await show(context, fixtures.busy(), { hash: "#flow" });
  let release;
  const held = new Promise((resolve) => {
    release = resolve;
  });
  await page.route("**/console/api/connect", async (route) => {
    await held;
    await route.continue();
  });
  await page.getByRole("tab", { name: "Connect" }).click();
  await page.getByRole("tab", { name: "Deliveries" }).click();
  const answered = page.waitForResponse("**/console/api/connect");
  release();
  await answered;
  await page.getByRole("columnheader", { name: "Attempts" }).waitFor();
  assert.equal(await page.getByText("In Clay", { exact: true }).count(), 0);
});
