// The public Standard Webhooks package as the sender.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Webhook } from "standardwebhooks";
import { SIGNING_SECRET, eventually, startRelay } from "./destinations.js";

const BODY = JSON.stringify({
  eventName: "contact.created",
  eventTime: 1734425918,
  webhookSchemaVersion: "1.0.0",
  contactIdentity: { id: "c1", email: "zoë@example.com", userId: null },
  contact: { id: "c1", email: "zoë@example.com", firstName: "Zoë ✓" },
});

function post(relay, id, at, signature, body = BODY) {
  const headers = {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": signature,
  };
  return fetch(`${relay.base}/webhooks/loops`, { method: "POST", headers, body });
}

test("a signed webhook is accepted and reaches Clay", async (t) => {
  const relay = await startRelay(t);
  const now = new Date();
  const response = await post(relay, "msg_1", now, new Webhook(SIGNING_SECRET).sign("msg_1", now, BODY));
  assert.deepEqual([response.status, await response.json()], [200, { success: true, status: "queued" }]);
  const rows = await eventually("the row at Clay", async () => {
    const rows = await (await fetch(`${relay.clay}/rows`)).json();
    return rows.length > 0 && rows;
  });
  assert.equal(rows.length, 1);
});

test("a webhook changed after signing is rejected", async (t) => {
  const relay = await startRelay(t);
  const now = new Date();
  const signature = new Webhook(SIGNING_SECRET).sign("msg_1", now, BODY);
  const others = [
    post(relay, "msg_2", now, signature),
    post(relay, "msg_1", new Date(now.getTime() - 5000), signature),
    post(relay, "msg_1", now, signature, BODY.replace("Zoë", "Zoe")),
    post(relay, "msg_1", now, new Webhook("whsec_c2VjcmV0").sign("msg_1", now, BODY)),
  ];
  for (const response of await Promise.all(others)) {
    assert.deepEqual([response.status, (await response.json()).code], [401, "invalid_signature"]);
  }
});

test("a webhook signed too long ago is rejected", async (t) => {
  const relay = await startRelay(t);
  const then = new Date(Date.now() - 400_000);
  const response = await post(relay, "msg_1", then, new Webhook(SIGNING_SECRET).sign("msg_1", then, BODY));
  assert.deepEqual([response.status, (await response.json()).code], [401, "timestamp_out_of_range"]);
});
