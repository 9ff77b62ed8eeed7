// Serves the page with its real headers and made-up documents: for work on the page, and for states that are hard to reach.
//   node tools/console/mock.js [PORT]

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { answerOf } from "./answers.js";
import * as fixtures from "./fixtures.js";

const PAGE = fileURLToPath(new URL("../../crates/relay-console/page/", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
};
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store",
};
export const PAGE_TOKEN = "page-token-of-the-mock";

/**
 * Starts the mock on a free port of this machine.
 * @param {object} state What `fixtures.js` makes, or parts of it.
 * @param {{port?: number, relayToken?: string}} options With a relay token, everything below /console/api needs it.
 * @returns {Promise<{url: string, push: (overview: object) => void, close: () => Promise<void>}>}
 */
export async function startMock(state = fixtures.busy(), { port = 0, relayToken } = {}) {
  const streams = new Set();
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => answer(request, response, body));
  });

  function answer(request, response, body) {
    const { pathname, searchParams } = new URL(request.url, "http://mock");
    if (!pathname.startsWith("/console/api/")) return file(pathname, response);
    if (relayToken && request.headers.authorization !== `Bearer ${relayToken}`)
      return json(response, 401, { message: "The relay token is needed." });
    if (request.method === "POST" && request.headers["x-console-token"] !== PAGE_TOKEN)
      return json(response, 403, { message: "This page is not of this relay." });
    const route = pathname.slice("/console/api/".length);
    if (route === "stream" && !state.overview.pollSeconds) return stream(response);
    const document = answerOf(state, route, searchParams, body && JSON.parse(body));
    return document ? json(response, 200, document) : json(response, 404, { message: "There is no such document." });
  }

  function stream(response) {
    response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream" });
    send(response, state.overview);
    streams.add(response);
    response.on("close", () => streams.delete(response));
  }

  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    push(overview) {
      state.overview = overview;
      for (const each of streams) send(each, overview);
    },
    close() {
      for (const each of streams) each.end();
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

function send(response, overview) {
  response.write(`event: overview\ndata: ${JSON.stringify(overview)}\n\n`);
}

function json(response, status, document) {
  response.writeHead(status, { ...HEADERS, "Content-Type": "application/json" });
  response.end(JSON.stringify(document));
}

function file(pathname, response) {
  const name = pathname === "/" ? "index.html" : normalize(pathname).replace("/console/", "");
  try {
    const text = readFileSync(join(PAGE, name), "utf8").replace("{{console-token}}", PAGE_TOKEN);
    response.writeHead(200, { ...HEADERS, "Content-Type": TYPES[extname(name)] });
    response.end(text);
  } catch {
    response.writeHead(404, HEADERS).end();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await startMock(fixtures.busy(), { port: Number(process.argv[2] ?? 8788) });
  console.log(url);
}
