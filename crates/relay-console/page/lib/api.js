// Calls of the page's own server.

import { askForToken } from "./token.js";

const PAGE_TOKEN = document.querySelector('meta[name="console-token"]').content;
const BASE = "/console/api/";

/** The relay token, where the server asks for one. In memory, and nowhere else. */
let relayToken = null;
let asking = null;

/** An answer that is no success: `message` is a sentence for the reader. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Calls a route and returns its response. Where the server wants the relay token, the reader is asked for it.
 * @param {"GET"|"POST"} method
 * @param {string} path Below `/console/api/`.
 * @param {{body?: object, signal?: AbortSignal}} options
 * @returns {Promise<Response>} A successful one, else an ApiError is thrown.
 */
export async function request(method, path, { body, signal } = {}) {
  const sent = relayToken;
  const headers = { "X-Console-Token": PAGE_TOKEN };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (sent) headers.Authorization = `Bearer ${sent}`;
  let response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      signal,
      body: body && JSON.stringify(body),
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The relay does not answer: is it running?");
  }
  if (response.status === 401) {
    asking ??= askForToken(sent !== null).finally(() => {
      asking = null;
    });
    relayToken = await asking;
    return request(method, path, { body, signal });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new ApiError(response.status, answer.message ?? `The relay answered ${response.status}.`);
}

/** Reads a document. */
export async function get(path, signal) {
  return (await request("GET", path, { signal })).json();
}

/** Posts a document and reads the answer. */
export async function post(path, body, signal) {
  return (await request("POST", path, { body, signal })).json();
}

/** A query of what is filled in: `{state: "dead", reason: ""}` is `state=dead`. */
export function query(parameters) {
  const filled = Object.entries(parameters).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return new URLSearchParams(filled).toString();
}
