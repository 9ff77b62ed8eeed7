// Starts a relay as a user does, and stops it after the test.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PROGRAM = resolve(process.env.RELAY_LOCAL ?? join(HERE, "../../target/debug/relay-local"));
const RELAYCTL = resolve(process.env.RELAYCTL ?? join(PROGRAM, "../relayctl"));

/**
 * Starts a relay with these settings and no others: without any it is a trial.
 * @param {import("node:test").TestContext | {after: (stop: () => Promise<void>) => void}} test
 * @param {Object<string, string>} settings
 * @returns {Promise<{url: string, base: string, folder: string}>} The console's address, the relay's without a slash, and its data folder.
 */
export async function startRelay(test, settings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "relay-"));
  const child = spawn(PROGRAM, [], {
    cwd: folder,
    env: { RELAY_LISTEN: "127.0.0.1:0", RUST_LOG: "off", ...settings },
    stdio: ["ignore", "pipe", "inherit"],
  });
  test.after(async () => {
    if (child.exitCode === null) {
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGKILL");
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  });
  const lines = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    if (line.startsWith("Stop with")) break;
  }
  child.stdout.resume();
  const webhook = lines.find((line) => line.includes("Loops webhook"))?.match(/http:\/\/\S+/)?.[0];
  if (!webhook) throw new Error(`the relay did not start: ${lines.join("\n")}`);
  const base = webhook.replace("/webhooks/loops", "");
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
