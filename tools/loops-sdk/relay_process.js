// Starts a relay as a user does, and stops it after the test.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The program, which is built before the tests. */
export const PROGRAM = resolve(
  process.env.RELAY_LOCAL ?? fileURLToPath(new URL("../../target/debug/relay-local", import.meta.url)),
);

/**
 * Starts a relay in a folder of its own, with these settings and no others.
 * @returns {Promise<{base: string, folder: string, url: (label: string) => string | undefined}>} Its address without a slash,
 * the folder that it runs in, and the URL that its start shows in the line of a label.
 */
export async function runRelay(test, args, settings) {
  const folder = mkdtempSync(join(tmpdir(), "relay-"));
  const child = spawn(PROGRAM, args, {
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
  const url = (label) => lines.find((line) => line.includes(label))?.match(/http:\/\/\S+/)?.[0];
  const webhook = url("Loops webhook");
  if (!webhook) throw new Error(`the relay did not start: ${lines.join("\n")}`);
  return { base: webhook.replace("/webhooks/loops", ""), folder, url };
}
