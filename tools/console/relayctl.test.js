// The same page, served by relayctl for the data folder of a relay that runs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { launch, open } from "./browser.js";
import { startRelay, startRelayctlConsole } from "./relay.js";

test("relayctl console shows the deliveries of a data folder", async (context) => {
  const browser = await launch();
  context.after(() => browser.close());
  const relay = await startRelay(context);
  const trial = await open(browser, `${relay.url}#trial`);
  await trial.page.getByLabel("E-mail").fill("ada@example.com");
  await trial.page.getByRole("button", { name: "Create contact" }).click();
  await trial.page.locator(".sheet tbody tr").waitFor();

  const { page, trouble } = await open(browser, `${await startRelayctlConsole(context, relay.folder)}#deliveries`);
  await page.getByText(/^polling each/).waitFor();
  await page.locator(".deliveries a").click();
  await page.getByRole("dialog").getByText("Delivered to Clay").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("tab", { name: "Flow" }).click();
  await page.getByRole("button", { name: "Pause Loops to Clay …" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
  await page
    .locator(".lane.loops-to-clay")
    .getByText(/^Paused/)
    .waitFor();
  await trial.page.getByRole("tab", { name: "Flow" }).click();
  await trial.page
    .locator(".lane.loops-to-clay")
    .getByText(/^Paused/)
    .waitFor();
  assert.equal(await page.getByRole("tab", { name: "Trial" }).count(), 0);
  assert.deepEqual([...trouble, ...trial.trouble], []);
});
