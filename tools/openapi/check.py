#!/usr/bin/env python3
"""Checks openapi.yaml against a running relay.

usage: check.py RELAY_LOCAL

Starts the program with simulated destinations and has schemathesis send it requests that openapi.yaml allows, and some that it
does not. No response may be a 5xx, and each must match the description: status, headers and body. The seed is fixed.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = "relay-token-for-tests"
SCOPES = ["contacts:write", "events:send", "contacts:read", "contacts:delete", "email:send", "deliveries:read", "account:read"]
OPTIONS = [
    "--seed=1",
    "--max-examples=60",
    "--phases=examples,coverage,fuzzing,stateful",
    # A well-formed row may still be rejected by Loops, and the relay repairs many malformed ones.
    "--exclude-checks=negative_data_rejection,positive_data_acceptance",
    "--request-timeout=15",
    "--generation-database=none",
    "--warnings=off",
    "--no-color",
]


def start(program, folder):
    settings = {
        "RELAY_LISTEN": "127.0.0.1:0",
        "RELAY_DATA": folder,
        "RELAY_TOKEN": json.dumps([{"token": TOKEN, "scopes": SCOPES}]),
        "LOOPS_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "RUST_LOG": "off",
        "RELAYED_EVENTS": "*",
    }
    relay = subprocess.Popen([program, "--simulate"], env=settings, stdout=subprocess.PIPE, text=True)
    for line in relay.stdout:
        webhook = re.search(r"(http://\S+)/webhooks/loops", line)
        if webhook:
            return relay, webhook.group(1)
    sys.exit("the relay did not start, or did not say where it listens")


def main():
    with tempfile.TemporaryDirectory() as folder:
        relay, base = start(os.path.abspath(sys.argv[1]), folder)
        try:
            schemathesis = [pathlib.Path(sys.executable).with_name("schemathesis"), "run", ROOT / "openapi.yaml"]
            checked = subprocess.run(
                [*schemathesis, f"--url={base}", f"--header=Authorization: Bearer {TOKEN}", *OPTIONS],
                cwd=folder,
                env={**os.environ, "SCHEMATHESIS_HOOKS": "signed", "PYTHONPATH": str(pathlib.Path(__file__).parent)},
                timeout=300,
            )
            if relay.poll() is not None:
                sys.exit("the relay ended while it was checked")
            sys.exit(checked.returncode)
        finally:
            relay.kill()
            relay.wait()


if __name__ == "__main__":
    main()
