// Starts a relay as a user does, and stops it after the test.

import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { PROGRAM, runRelay } from "../loops-sdk/relay_process.js";

const RELAYCTL = resolve(process.env.RELAYCTL ?? join(PROGRAM, "../relayctl"));

/**
 * Starts a relay with these settings and no others: without any it is a trial.
 * @param {import("node:test").TestContext | {after: (stop: () => Promise<void>) => void}} test
 * @param {Object<string, string>} settings
 * @returns {Promise<{url: string, base: string, folder: string}>} The console's address, the relay's without a slash, and its data folder.
 */
export async function startRelay(test, settings = {}) {
  const { base, folder } = await runRelay(test, [], settings);
  return { url: `${base}/`, base, folder: join(folder, ".relay") };
}

/**
 * Starts `relayctl console` for the data folder of a relay, and stops it after the test.
 * @returns {Promise<string>} Its address.
 */
export async function startRelayctlConsole(test, folder) {
  const child = spawn(RELAYCTL, ["console", `--local=${folder}`, "--listen", "127.0.0.1:0"], {
    env: {},
    stdio: ["ignore", "pipe", "inherit"],
  });
  test.after(() => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout })) {
    const url = line.match(/http:\/\/[\d.]+:\d+\//)?.[0];
    if (url) return url;
  }
  throw new Error("relayctl console did not start");
}
