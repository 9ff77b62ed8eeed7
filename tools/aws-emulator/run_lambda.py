"""Runs the functions on this machine: `cargo lambda watch` serves the routes, AWS is emulated.

usage: run_lambda.py RELAY_LOCAL

RELAY_LOCAL is the built program of that name, which simulates Loops and Clay. The stack is the one of template.yaml, and
queues are drained as an event source mapping does. Ctrl-C ends everything and discards all state.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from botocore.exceptions import BotoCoreError
from provision_stack import Account, Stack
from resolve_template import translate

ROOT = Path(__file__).resolve().parents[2]
RELAY = "http://127.0.0.1:9000"
LOCAL = "127.0.0.1:8797"
# Those of events/api-gateway, so that `make invoke` works on its files.
SIGNING_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
TOKEN = "relay-token-for-tests"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(port, what):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"{what} did not start")


def start_emulator(work):
    port = free_port()
    log = open(work / "emulator.log", "w", encoding="utf-8")
    server = [sys.executable, str(Path(__file__).parent / "emulator.py"), "-H", "127.0.0.1", "-p", str(port)]
    program = subprocess.Popen(server, stdout=log, stderr=log, start_new_session=True)
    wait_for(port, "the emulated AWS")
    return program, f"http://127.0.0.1:{port}"


def start_destinations(relay_local, work):
    """Starts a relay-local in its own data folder. Only its simulated destinations are used."""
    environment = {**os.environ, "RELAY_LISTEN": LOCAL, "RELAY_DATA": str(work / "destinations")}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
    program = subprocess.Popen([relay_local, "--simulate"], env=environment, **quiet)
    destinations = {}
    for line in program.stdout:
        parts = line.split()
        if "simulated at" in line:
            destinations[parts[0]] = parts[3]
        if line.startswith("Stop with"):
            threading.Thread(target=program.stdout.read, daemon=True).start()
            return program, destinations
    sys.exit(f"relay-local did not start: is something listening on {LOCAL}?")


def put_secrets(account, stack, destinations):
    route = {
        "name": "contacts",
        "events": ["contact.created"],
        "webhooks": [{"url": f"{destinations['Clay']}/v3/sources/webhook/contacts"}],
    }
    documents = {
        "LoopsToClaySecret": {"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]},
        "ClayToLoopsSecret": {"loops_api_key": "simulated", "relay_tokens": [TOKEN]},
    }
    for name, document in documents.items():
        account.secrets_manager.put_secret_value(SecretId=stack["secrets"][name]["arn"], SecretString=json.dumps(document))


def write_environment(work, endpoint, stack, destinations):
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": stack["region"]}
    variables |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for function in stack["functions"].values():
        variables |= function["environment"]
    # The recorded webhooks of events/api-gateway are old.
    variables |= {"LOOPS_API_URL": f"{destinations['Loops']}/api", "SIGNATURE_TOLERANCE_SECONDS": "0"}
    path = work / "environment"
    path.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")
    return path


def drain(account, source):
    """Invokes the function with batches of a queue, as Lambda does, and deletes the messages that did not fail."""
    url = f"{RELAY}/2015-03-31/functions/{source['function']}/invocations"
    while True:
        try:
            received = account.sqs.receive_message(
                QueueUrl=source["queue_url"], MaxNumberOfMessages=source["batch_size"], WaitTimeSeconds=1, AttributeNames=["All"]
            )
        except BotoCoreError:
            return  # The emulator has ended.
        messages = received.get("Messages", [])
        if not messages:
            continue
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
            for message in messages
        ]
        request = urllib.request.Request(url, json.dumps({"Records": records}).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request) as response:
                failed = {each["itemIdentifier"] for each in json.load(response)["batchItemFailures"]}
        except (OSError, ValueError, KeyError):
            continue
        for message in messages:
            if message["MessageId"] not in failed:
                account.sqs.delete_message(QueueUrl=source["queue_url"], ReceiptHandle=message["ReceiptHandle"])


def print_usage(relay_local, destinations):
    program = os.path.relpath(relay_local)
    print(
        f"""
The functions answer at {RELAY}; the first request of each builds it.

  Loops is simulated at {destinations['Loops']}, Clay at {destinations['Clay']}.

1. A signed webhook travels through the queue to Clay:

  LOOPS_SIGNING_SECRET={SIGNING_SECRET} {program} send-webhook \\
    --to {RELAY}/webhooks/loops --wait 0 events/loops/contact.created.json &&
  curl -sS '{destinations['Clay']}/rows?wait=10'

2. A row becomes a contact, and one becomes an event:

  curl -sS -X PUT {RELAY}/api/v1/contacts/update \\
    -H 'Authorization: Bearer {TOKEN}' -H 'Content-Type: application/json' -d @events/clay/contact.json
  curl -sS -X POST {RELAY}/api/v1/events/send \\
    -H 'Authorization: Bearer {TOKEN}' -H 'Content-Type: application/json' -d @events/clay/event.json
  curl -sS {destinations['Loops']}/events

3. A recorded event of the gateway goes straight to a function:

  make invoke FUNCTION=clay-to-loops-contact EVENT=events/api-gateway/contact-update.json

Stop with Ctrl-C.
""",
        flush=True,
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    relay_local = str(Path(sys.argv[1]).resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    programs = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            program, destinations = start_destinations(relay_local, work)
            programs.append(program)
            emulator, endpoint = start_emulator(work)
            programs.append(emulator)
            account = Account(endpoint, "us-east-1")
            stack = Stack(account, translate(ROOT / "template.yaml", {}), "dev").describe()
            put_secrets(account, stack, destinations)
            environment = write_environment(work, endpoint, stack, destinations)
            # A function that is built anew while it has an event loses it, so changes wait for the next start.
            watch = ["cargo", "lambda", "watch", "--ignore-changes", "--invoke-address", "127.0.0.1"]
            watch += ["--env-file", str(environment)]
            # Ctrl-C is for this program, which ends the others.
            watcher = subprocess.Popen(watch, cwd=ROOT, start_new_session=True)
            programs.append(watcher)
            wait_for(9000, "cargo lambda watch")
            for source in stack["event_sources"]:
                threading.Thread(target=drain, args=(account, source), daemon=True).start()
            print_usage(relay_local, destinations)
            watcher.wait()
        except KeyboardInterrupt:
            pass
        finally:
            for program in reversed(programs):
                program.terminate()
                program.wait()


if __name__ == "__main__":
    main()
