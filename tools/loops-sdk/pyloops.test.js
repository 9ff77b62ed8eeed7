// The Python client pyloops with the trial relay as its host. It needs Python 3.12: without one, these tests are skipped.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startTrial } from "./destinations.js";

const PYTHON = process.env.PYLOOPS_PYTHON;
const FLOWS = fileURLToPath(new URL("pyloops_flows.py", import.meta.url));

for (const flow of ["contacts", "reads", "sends"]) {
  test(`pyloops: ${flow}`, { skip: !PYTHON && "needs Python 3.12 or newer" }, async (t) => {
    const { api, token } = await startTrial(t);
    const child = spawn(PYTHON, [FLOWS, flow, api, token], { stdio: ["ignore", "inherit", "inherit"] });
    assert.deepEqual(await once(child, "exit"), [0, null]);
  });
}
