// Starts a relay as a user does, and a mock Loops with scripted responses.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { runRelay } from "./relay_process.js";

export const TOKEN = "relay-token-for-tests";
export const SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** Starts a relay with these settings and no others, and stops it after the test. */
export async function startRelay(test, settings = {}) {
  const own = { RELAY_DATA: ".", RELAY_TOKEN: TOKEN, LOOPS_SIGNING_SECRET: SIGNING_SECRET };
  const { base, folder, url } = await runRelay(test, ["--simulate"], { ...own, ...settings });
  return { base, folder, loops: url("  Loops  "), clay: url("  Clay  ") };
}

/** Whether the trials call the simulated Loops without a relay: to see that what they expect is what Loops does. */
export const WITHOUT_RELAY = process.env.SDK_TARGET === "loops";

/** Starts a relay with nothing set: a client needs its base URL and the token that it generated. */
export async function startTrial(test) {
  const relay = await startRelay(test, { RELAY_TOKEN: undefined, LOOPS_SIGNING_SECRET: undefined });
  const atLoops = { api: `${relay.loops}/api`, token: "simulated" };
  const atRelay = { api: `${relay.base}/api`, token: readFileSync(join(relay.folder, "relay-token"), "utf8").trim() };
  return { ...(WITHOUT_RELAY ? atLoops : atRelay), atLoops, loops: relay.loops };
}

/** Starts a mock Loops that replies with these in order, and then always with the last of them. */
export async function startLoops(test, ...replies) {
  const calls = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    if (request.method === "GET") {
      // The list of contact properties: this account has none.
      response.writeHead(200, { "content-type": "application/json" }).end("[]");
      return;
    }
    calls.push({ method: request.method, path: request.url, headers: request.headers, body });
    const { status, text, headers } = replies.length > 1 ? replies.shift() : replies[0];
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(text);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  test.after(() => server.close() && server.closeAllConnections());
  return { api: `http://127.0.0.1:${server.address().port}/api`, calls };
}

/** Polls until `poll` returns something, and returns it. */
export async function eventually(description, poll) {
  const until = Date.now() + 20_000;
  while (Date.now() < until) {
    const found = await poll();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`did not happen in time: ${description}`);
}
