// The requests of the Go clients, byte for byte, with the trial relay as their host.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { test } from "node:test";
import { startTrial } from "./destinations.js";

const { flows } = JSON.parse(readFileSync(new URL("loops-go.json", import.meta.url), "utf8"));

/** Sends a request with the headers that Go's client writes, and no others. */
function send({ api, token }, { method, path, body, userAgent, idempotencyKey }) {
  const headers = {
    "User-Agent": userAgent ?? "loops-go/v0.4.0",
    ...(body && { "Content-Length": Buffer.byteLength(body) }),
    Authorization: `Bearer ${token}`,
    ...(body && { "Content-Type": "application/json" }),
    ...(idempotencyKey && { "Idempotency-Key": idempotencyKey }),
    "Accept-Encoding": "gzip",
  };
  return new Promise((resolve, reject) => {
    const call = request(`${api}/v1${path}`, { method, headers }, async (response) => {
      let text = "";
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, text });
    });
    call.on("error", reject);
    call.end(body);
  });
}

/** Requires what is expected, and allows more fields. */
function assertHas(actual, expected, where) {
  if (expected === null || typeof expected !== "object") return assert.equal(actual, expected, where);
  if (Array.isArray(expected)) assert.equal(actual.length, expected.length, where);
  for (const [key, value] of Object.entries(expected)) assertHas(actual[key], value, `${where}.${key}`);
}

for (const { name, requests } of flows) {
  test(`Go clients: ${name}`, async (t) => {
    const trial = await startTrial(t);
    for (const one of requests) {
      const { status, text } = await send(trial, one);
      assert.equal(status, one.status, `${one.call}: ${text}`);
      assertHas(JSON.parse(text), one.answer, one.call);
    }
  });
}
