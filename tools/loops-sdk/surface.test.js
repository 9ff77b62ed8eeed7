// The official Loops client with the trial relay as its host: each of its calls that the relay has.

import assert from "node:assert/strict";
import { test } from "node:test";
import { APIError, LoopsClient } from "loops";
import { WITHOUT_RELAY, startTrial } from "./destinations.js";

const CONFIRMATION = "cll42l54f20i1la0lfooe3z12";
const RECEIPT = "cm5r9d0w700b4l80jq2k6xtne";

function clientOf({ api, token }) {
  const client = new LoopsClient(token);
  client.apiRoot = `${api}/`;
  return client;
}

/** Starts a relay; returns a client of it, one of the Loops behind it, and what that Loops shows. */
async function start(t) {
  const trial = await startTrial(t);
  const show = async (path) => (await fetch(`${trial.loops}${path}`)).json();
  return { client: clientOf(trial), atLoops: clientOf(trial.atLoops), show };
}

/** Returns the error of a call. */
async function errorOf(call) {
  const error = await call.then(() => assert.fail("the call was accepted"), (error) => error);
  assert.ok(error instanceof APIError, error);
  return error;
}

test("a contact is created, found and deleted", async (t) => {
  const { client, show } = await start(t);
  const created = await client.createContact({ email: "ada@example.com", properties: { firstName: "Ada", seats: 5 } });
  assert.equal(created.success, true);
  const [found] = await client.findContact({ email: "ada@example.com" });
  assert.deepEqual([found.id, found.firstName, found.seats], [created.id, "Ada", 5]);
  assert.deepEqual(await client.deleteContact({ email: "ada@example.com" }), { success: true, message: "Contact deleted." });
  assert.deepEqual(await client.findContact({ email: "ada@example.com" }), []);
  assert.deepEqual(await show("/contacts"), []);
});

test("a contact is updated and found by its user id", async (t) => {
  const { client } = await start(t);
  const { id } = await client.updateContact({ email: "ada@example.com", userId: "u 1&2", properties: { plan: "pro" } });
  const [found] = await client.findContact({ userId: "u 1&2" });
  assert.deepEqual([found.id, found.plan], [id, "pro"]);
});

test("a contact that exists is Loops' own 409", async (t) => {
  const { client } = await start(t);
  await client.createContact({ email: "ada@example.com" });
  const error = await errorOf(client.createContact({ email: "ada@example.com" }));
  assert.equal(error.message, "409 - Email or userId is already on list");
});

test("deleting an unknown contact is Loops' own 404", async (t) => {
  const { client } = await start(t);
  const error = await errorOf(client.deleteContact({ userId: "nobody" }));
  assert.equal(error.message, "404 - Contact not found.");
});

test("lists, properties and team are as from Loops itself", async (t) => {
  const { client, atLoops } = await start(t);
  await client.updateContact({ email: "ada@example.com", properties: { favoriteColor: "blue" } });
  assert.deepEqual(await client.listContactProperties("custom"), await atLoops.listContactProperties("custom"));
  assert.deepEqual(await client.listMailingLists(), await atLoops.listMailingLists());
  assert.deepEqual(await client.testApiKey(), { success: true, teamName: "Simulated team" });
});

test("the suppression of a contact is as from Loops itself", async (t) => {
  const { client, atLoops } = await start(t);
  await client.updateContact({ email: "ada@bounces.example" });
  const suppression = await client.checkContactSuppression({ email: "ada@bounces.example" });
  assert.equal(suppression.isSuppressed, true);
  assert.deepEqual(suppression, await atLoops.checkContactSuppression({ email: "ada@bounces.example" }));
  const error = await errorOf(client.checkContactSuppression({ email: "nobody@example.com" }));
  assert.equal(error.message, "404 - Contact not found.");
});

test("an event is sent", async (t) => {
  const { client, show } = await start(t);
  const event = { email: "ada@example.com", eventName: "signup", eventProperties: { plan: "pro" } };
  assert.deepEqual(await client.sendEvent(event), { success: true });
  assert.deepEqual((await show("/events"))[0].body.eventProperties, { plan: "pro" });
});

test("a transactional e-mail is sent with its variables", async (t) => {
  const { client, show } = await start(t);
  const dataVariables = { name: "Ada", items: [{ name: "Book", price: 12.5 }] };
  const response = await client.sendTransactionalEmail({
    transactionalId: RECEIPT,
    email: "ada@example.com",
    addToAudience: true,
    dataVariables,
    headers: { "Idempotency-Key": "receipt-1" },
  });
  assert.deepEqual(response, { success: true });
  const [email] = await show("/emails");
  assert.deepEqual([email.idempotencyKey, email.body.dataVariables], ["receipt-1", dataVariables]);
  assert.equal((await show("/contacts"))[0].email, "ada@example.com");
});

test("a repeated transactional e-mail is sent once", { skip: WITHOUT_RELAY }, async (t) => {
  const { client, show } = await start(t);
  const receipt = { transactionalId: RECEIPT, email: "ada@example.com", dataVariables: { name: "Ada" } };
  assert.deepEqual(await client.sendTransactionalEmail(receipt), { success: true });
  assert.deepEqual(await client.sendTransactionalEmail(receipt), { success: true, duplicate: true });
  assert.equal((await show("/emails")).length, 1);
});

test("an e-mail that Loops cannot send is Loops' own error", async (t) => {
  const { client } = await start(t);
  const missing = await errorOf(client.sendTransactionalEmail({ transactionalId: CONFIRMATION, email: "ada@example.com" }));
  assert.equal(missing.message, "400 - Missing required data variable(s): confirmationUrl");
  const unknown = await errorOf(client.sendTransactionalEmail({ transactionalId: "cl0000", email: "ada@example.com" }));
  assert.equal(unknown.message, "404 - Transactional email not found.");
});

test("calls that the relay does not have say so", { skip: WITHOUT_RELAY }, async (t) => {
  const { client } = await start(t);
  for (const [status, call] of [
    [404, () => client.listTransactionalEmails()],
    [404, () => client.listCampaigns()],
    [405, () => client.createContactProperty("plan", "string")],
    [405, () => client.removeContactSuppression({ email: "ada@example.com" })],
  ]) {
    const error = await errorOf(call());
    assert.equal(error.statusCode, status);
    assert.equal(typeof error.json.message, "string");
  }
});
