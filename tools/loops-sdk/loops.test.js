// The official Loops client with the relay as its host: only the host and the token differ.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { APIError, LoopsClient, RateLimitExceededError } from "loops";
import { TOKEN, eventually, startLoops, startRelay } from "./destinations.js";

function clientOf(api, key) {
  const client = new LoopsClient(key);
  client.apiRoot = `${api}/`;
  return client;
}

const through = (relay) => clientOf(`${relay.base}/api`, TOKEN);
const toLoops = (loops) => ({ LOOPS_API_URL: loops.api, LOOPS_API_KEY: "key", LOOPS_RATE_PER_SECOND: "1000" });
const rejection = (status, message) => ({ status, text: JSON.stringify({ success: false, message }) });

test("a contact is updated", async (t) => {
  const relay = await startRelay(t);
  const response = await through(relay).updateContact({
    email: "ada@example.com",
    properties: { firstName: "Ada", plan: "", seats: 5, vip: true },
    mailingLists: { cm06f5v0e45nf0ml5754o9cix: true },
  });
  assert.equal(response.success, true);
  const [contact] = await (await fetch(`${relay.loops}/contacts`)).json();
  assert.equal(response.id, contact.id);
  assert.deepEqual(
    [contact.email, contact.firstName, contact.seats, contact.vip, "plan" in contact],
    ["ada@example.com", "Ada", 5, true, false],
  );
  assert.deepEqual(contact.mailingLists, { cm06f5v0e45nf0ml5754o9cix: true });
});

test("a repeated event reaches Loops once", async (t) => {
  const relay = await startRelay(t, { LOOPS_RATE_PER_SECOND: "10" });
  const event = { email: "ada@example.com", eventName: "signup", eventProperties: { plan: "pro" } };
  assert.deepEqual(await through(relay).sendEvent(event), { success: true });
  assert.deepEqual(await through(relay).sendEvent(event), { success: true, duplicate: true });
  const events = await (await fetch(`${relay.loops}/events`)).json();
  assert.equal(events.length, 1);
  assert.deepEqual(events[0].body.eventProperties, { plan: "pro" });
});

test("the client's own idempotency key is passed to Loops", async (t) => {
  const loops = await startLoops(t, { status: 200, text: '{"success":true}' });
  const relay = await startRelay(t, toLoops(loops));
  await through(relay).sendEvent({
    userId: "u1",
    eventName: "signup",
    headers: { "Idempotency-Key": "row-7" },
  });
  assert.equal(loops.calls[0].headers["idempotency-key"], "row-7");
  assert.equal(loops.calls[0].headers.authorization, "Bearer key");
});

test("a queued row is a success", async (t) => {
  const loops = await startLoops(t, rejection(500, "Down."), rejection(500, "Down."), { status: 200, text: '{"success":true}' });
  const relay = await startRelay(t, toLoops(loops));
  const response = await through(relay).updateContact({ email: "ada@example.com" });
  assert.deepEqual([response.success, response.status], [true, "queued"]);
  await eventually("the stored row", () => loops.calls.length === 3);
});

for (const [status, message] of [
  [400, "Contact not found."],
  [404, "Not found."],
  [409, "Email or userId is already on list"],
  [422, "Unprocessable."],
]) {
  test(`${status} is the same error as from Loops itself`, async (t) => {
    const loops = await startLoops(t, rejection(status, message));
    const relay = await startRelay(t, toLoops(loops));
    const errors = [];
    for (const client of [clientOf(loops.api, "key"), through(relay)]) {
      await assert.rejects(client.updateContact({ email: "ada@example.com" }), (error) => {
        errors.push(error);
        return error instanceof APIError;
      });
    }
    const summaries = errors.map(({ name, message, statusCode, json }) => ({ name, message, statusCode, success: json.success, jsonMessage: json.message }));
    assert.deepEqual(summaries[1], summaries[0]);
    assert.equal(errors[1].json.code, "loops_rejected");
  });
}

test("a wrong token is the same error as a wrong key", async (t) => {
  const relay = await startRelay(t);
  const atLoops = await clientOf(`${relay.loops}/api`, "wrong").updateContact({ email: "a@b.co" }).catch((error) => error);
  const atRelay = await clientOf(`${relay.base}/api`, "wrong").updateContact({ email: "a@b.co" }).catch((error) => error);
  assert.ok(atLoops instanceof APIError && atRelay instanceof APIError);
  assert.deepEqual([atRelay.statusCode, atRelay.json.success], [atLoops.statusCode, atLoops.json.success]);
  assert.match(atRelay.message, /^401 - .*token/);
});

test("a row that the relay rejects is an error with its message", async (t) => {
  const relay = await startRelay(t);
  const error = await through(relay).updateContact({ email: "{{Email}}" }).catch((error) => error);
  assert.ok(error instanceof APIError);
  assert.equal(error.statusCode, 400);
  assert.equal(error.json.field, "email");
  assert.match(error.message, /^400 - email arrived as "\{\{Email\}\}"/);
});

test("an unstorable row that Loops fails is a rate-limit error", async (t) => {
  const loops = await startLoops(t, rejection(500, "Down."));
  const relay = await startRelay(t, toLoops(loops));
  // The store rejects inserts, as on a full disk.
  const full = "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END";
  const program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])";
  const made = spawnSync("python3", ["-c", program, join(relay.folder, "relay.db"), full], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  await assert.rejects(through(relay).updateContact({ email: "ada@example.com" }), RateLimitExceededError);
});
