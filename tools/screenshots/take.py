"""Takes the screenshots of `relayctl` that the README shows.

usage: take.py PROGRAMS FOLDER

PROGRAMS is the folder with the built programs; setup.svg, doctor.svg and dead-letters.svg are written to FOLDER. An emulated AWS
must be running (tools/aws-emulator/with-emulator). The stack runs its real functions between mock destinations. `relayctl` runs
on a pseudo-terminal with typed input, and a terminal emulator renders its output, progress bars included. A screenshot that
would contain a secret, or a path or address of this machine, is not written.
"""

import json
import pathlib
import re
import subprocess
import sys
import time

from drawing import Screen, draw
from ptyprocess import PtyProcess

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS, ROWS = 100, 100
# Maximum duration of a command, in seconds.
TIMEOUT = 60
# A key in the format of Loops, and a webhook token in that of Clay; `demo-stack` prints the other secrets.
API_KEY, WEBHOOK_TOKEN = "5f0c9a7e31d84b62", "clay-webhook-token"
WEBHOOK_PATH = "/v3/sources/webhook/pull-in-data-from-a-webhook"


def masks(destinations):
    """Patterns of values that differ between runs, and their replacements of the same length, so that tables stay aligned."""
    return [
        # The stack's addresses are ports of this machine; the replacements are those of AWS and Clay.
        (re.escape(destinations["api"]), "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"),
        (re.escape(destinations["clay"]), "https://api.clay.com"),
        # The fingerprint of a Clay webhook is that of its URL.
        (r"\b[0-9a-f]{16}\b", "07e3dfd4ae13edae"),
        # The delivery id of a contact is random.
        (r"\bcontact_[0-9a-f]{32}\b", "contact_9cfdceea313c490e83920f7a467df2a1"),
        # Timestamps. A narrow column has the day and the time of day in two lines.
        (r"\b20\d\d-\d\d-\d\d(?=[ T])", "2026-01-15"),
        (r"(?<!\d)\d\d:\d\d:\d\d(\.\d+)?Z", "09:30:00Z"),
    ]


class Stack:
    """The stack, run by the process `demo-stack`."""

    def __init__(self, programs):
        command = [programs / "demo-stack"]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        line = self.program.stdout.readline()
        if not line:
            sys.exit("the stack did not start")
        description = json.loads(line)
        self.environment, self.destinations = description["environment"], description["destinations"]
        self.secrets = [*description["secrets"].values(), API_KEY, WEBHOOK_TOKEN, WEBHOOK_PATH]
        self.signing_secret = description["secrets"]["signing"]

    def do(self, what):
        self.program.stdin.write(f"{what}\n")
        self.program.stdin.flush()
        if self.program.stdout.readline() != "done\n":
            sys.exit(f"the stack could not do: {what}")

    def stop(self):
        self.program.stdin.close()
        self.program.wait()


class Terminal:
    """A terminal on which commands run one after another."""

    def __init__(self, programs, stack):
        self.programs, self.stack, self.written = programs, stack, b""

    def run(self, arguments, inputs=(), code=0):
        """Runs the program. Each input is typed at a prompt, once echoing is off."""
        self.written += f"\x1b[1m$ relayctl {arguments}\x1b[0m\r\n".encode()
        environment = {**self.stack.environment, "TERM": "xterm-256color", "TZ": "UTC"}
        command = [str(self.programs / "relayctl"), *arguments.split()]
        program = PtyProcess.spawn(command, cwd=str(ROOT), env=environment, dimensions=(ROWS, COLUMNS))
        inputs, output, deadline = list(inputs), b"", time.monotonic() + TIMEOUT
        while True:
            if time.monotonic() > deadline:
                program.terminate(force=True)
                sys.exit(f"relayctl {arguments} did not exit in time; it printed {output!r}")
            try:
                piece = program.read(65536)
            except EOFError:
                break
            output += piece
            self.written += piece
            if inputs and output.endswith(b"]: "):
                if not program.waitnoecho(timeout=TIMEOUT):
                    sys.exit("relayctl prompts, and echoes the input")
                program.write(f"{inputs.pop(0)}\n".encode())
                output = b""
        program.wait()
        if program.exitstatus != code or inputs:
            sys.exit(f"relayctl {arguments} ended with {program.exitstatus}; it printed {output.decode()}")
        self.written += b"\r\n"

    def check_private(self):
        """Exits if a secret or a path of this machine is in the output, visible or not."""
        written = self.written.decode()
        for index, secret in enumerate(self.stack.secrets):
            if secret in written:
                sys.exit(f"a secret is in what relayctl wrote: number {index} of the secrets of the stack and the typed ones")
        for path in (str(ROOT), str(pathlib.Path.home()) + "/"):
            if path in written:
                sys.exit(f"{path} is in what relayctl wrote")

    def screenshot(self):
        """Returns the final screen, masked."""
        self.check_private()
        text = self.written.decode()
        for pattern, replacement in masks(self.stack.destinations):
            text = re.sub(pattern, replacement, text)
        if "127.0.0.1" in text:
            sys.exit("an address of this machine is in the screenshot")
        return Screen(COLUMNS, ROWS).feed(text)


def terminals(programs, stack):
    setup = Terminal(programs, stack)
    setup.run("setup", [API_KEY, stack.signing_secret, stack.destinations["clay"] + WEBHOOK_PATH, WEBHOOK_TOKEN])
    yield "setup", setup
    stack.do("row")
    doctor = Terminal(programs, stack)
    doctor.run("doctor")
    yield "doctor", doctor
    stack.do("three-dead-letters")
    dead_letters = Terminal(programs, stack)
    dead_letters.run("dead-letters list")
    dead_letters.run("dead-letters retry --reason clay_rejected")
    dead_letters.run("dead-letters retry --reason clay_rejected --yes")
    yield "dead-letters", dead_letters


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    programs, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    stack = Stack(programs)
    try:
        for name, terminal in terminals(programs, stack):
            screen = terminal.screenshot()
            (folder / f"{name}.svg").write_text(draw(screen, name), encoding="utf-8")
    finally:
        stack.stop()


if __name__ == "__main__":
    main()
