// What is not the console's own page gets nothing: another origin, another host, a proxy, a call without the page's token.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { after, before, test } from "node:test";

import { launch } from "./browser.js";
import { startRelay } from "./relay.js";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Makes a request whose headers are all its own. */
function call(base, { method = "GET", path = "/console/api/overview", headers = {}, body } = {}) {
  return new Promise((done, failed) => {
    const sent = request(`${base}${path}`, { method, headers }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => done({ status: response.statusCode, headers: response.headers, text }));
    });
    sent.on("error", failed);
    sent.end(body);
  });
}

/** The token of the page, as its own scripts read it. */
async function pageToken(base) {
  const { text } = await call(base, { path: "/" });
  return /name="console-token" content="([^"]+)"/.exec(text)[1];
}

const PAUSE = {
  method: "POST",
  path: "/console/api/pause",
  body: JSON.stringify({ direction: "loops-to-clay", paused: true }),
};
const JSON_TYPE = { "Content-Type": "application/json" };

async function isPaused(base) {
  return JSON.parse((await call(base)).text).directions[0].paused;
}

test("a page of another origin reads nothing and does nothing", async (context) => {
  const { base } = await startRelay(context);
  const stranger = createServer((_, response) =>
    response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>A stranger</h1>"),
  );
  await new Promise((done) => stranger.listen(0, "127.0.0.1", done));
  context.after(() => new Promise((done) => stranger.close(done)));
  const page = await browser.newPage();
  context.after(() => page.close());
  await page.goto(`http://127.0.0.1:${stranger.address().port}/`);
  const tries = await page.evaluate(
    async ({ base, token, body }) => {
      const attempt = (path, options) =>
        fetch(base + path, options).then(
          async (answer) => `${answer.type} ${await answer.text()}`,
          () => "refused",
        );
      return [
        await attempt("/console/api/overview"),
        await attempt("/"),
        await attempt("/console/api/pause", {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-Console-Token": token },
          body,
        }),
        await attempt("/console/api/pause", { method: "POST", mode: "no-cors", body }),
        await attempt("/console/api/overview", { mode: "no-cors" }),
      ];
    },
    { base, token: await pageToken(base), body: PAUSE.body },
  );
  assert.deepEqual(tries.slice(0, 3), ["refused", "refused", "refused"]);
  for (const answer of tries.slice(3)) assert.match(answer, /^(refused|opaque $)/);
  assert.equal(await isPaused(base), false);
});

test("another host in the address is refused", async (context) => {
  const { base } = await startRelay(context);
  assert.equal((await call(base, { headers: { Host: "relay.attacker.example" } })).status, 421);
  assert.equal((await call(base, { path: "/", headers: { Host: "relay.attacker.example" } })).status, 421);
});

test("what a proxy passed on is refused", async (context) => {
  const { base } = await startRelay(context);
  for (const header of ["Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"]) {
    assert.equal((await call(base, { headers: { [header]: "198.51.100.7" } })).status, 421, header);
  }
});

test("a request with another origin is refused even with the page's token", async (context) => {
  const { base } = await startRelay(context);
  const token = await pageToken(base);
  const headers = { ...JSON_TYPE, "X-Console-Token": token };
  for (const stranger of [
    { Origin: "https://attacker.example" },
    { Origin: "null" },
    { "Sec-Fetch-Site": "cross-site" },
  ]) {
    assert.equal(
      (await call(base, { ...PAUSE, headers: { ...headers, ...stranger } })).status,
      403,
      JSON.stringify(stranger),
    );
  }
  assert.equal(await isPaused(base), false);
  assert.equal((await call(base, { ...PAUSE, headers })).status, 200);
  assert.equal(await isPaused(base), true);
});

test("an act without the page's token is refused", async (context) => {
  const { base } = await startRelay(context);
  assert.equal((await call(base, { ...PAUSE, headers: JSON_TYPE })).status, 403);
  assert.equal((await call(base, { ...PAUSE, headers: { ...JSON_TYPE, "X-Console-Token": "guessed" } })).status, 403);
  assert.equal(await isPaused(base), false);
});

test("every answer has the strict headers and no cookie", async (context) => {
  const { base } = await startRelay(context);
  for (const path of [
    "/",
    "/console/app.js",
    "/console/base.css",
    "/console/api/overview",
    "/console/api/deliveries/none",
  ]) {
    const { headers } = await call(base, { path });
    assert.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self'; style-src 'self';/, path);
    assert.doesNotMatch(headers["content-security-policy"], /unsafe/);
    assert.equal(headers["x-content-type-options"], "nosniff", path);
    assert.equal(headers["cache-control"], "no-store", path);
    assert.equal(headers["set-cookie"], undefined, path);
  }
});

test("an address beyond this machine has no console", async (context) => {
  const { base } = await startRelay(context, { RELAY_LISTEN: "0.0.0.0:0" });
  assert.equal((await call(base, { path: "/" })).status, 404);
  assert.equal((await call(base)).status, 404);
});
