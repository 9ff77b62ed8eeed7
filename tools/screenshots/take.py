"""Takes the pictures of `relayctl` that the README shows.

usage: take.py PROGRAMS FOLDER

PROGRAMS is the folder with the built programs, FOLDER gets setup.svg, doctor.svg and dead-letters.svg. An emulated AWS must be
there (tools/aws-emulator/with-emulator). The stack runs its real functions between simulated ends; `relayctl` runs on a terminal, is
typed to as a person would, and a terminal's emulator makes of its bytes what a person sees, progress bars included. A picture
that would show something secret, or this machine, is not written.
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
# The longest that a command may take, in seconds.
PATIENCE = 60
# A key as Loops makes them, and a webhook's token as Clay does; the others are told by `operated`.
API_KEY, WEBHOOK_TOKEN = "5f0c9a7e31d84b62", "clay-webhook-token"
WEBHOOK_PATH = "/v3/sources/webhook/pull-in-data-from-a-webhook"


def masks(ends):
    """What differs from one run to the next, and what is shown instead; each as long as in the table that it stands in."""
    return [
        # The stack's addresses are ports of this machine. They are shown as they are on AWS, and at Clay.
        (re.escape(ends["api"]), "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"),
        (re.escape(ends["clay"]), "https://api.clay.com"),
        # The fingerprint of Clay's webhook is one of its address.
        (r"\b[0-9a-f]{16}\b", "07e3dfd4ae13edae"),
        # Each contact that is queued gets an id of its own.
        (r"\bcontact_[0-9a-f]{32}\b", "contact_9cfdceea313c490e83920f7a467df2a1"),
        # When something came, or died. A narrow column has the day and the time of day in two lines.
        (r"\b20\d\d-\d\d-\d\d(?=[ T])", "2026-01-15"),
        (r"(?<!\d)\d\d:\d\d:\d\d(\.\d+)?Z", "09:30:00Z"),
    ]


class Stack:
    """The stack, in a program of its own."""

    def __init__(self, programs):
        command = [programs / "demo-stack"]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        line = self.program.stdout.readline()
        if not line:
            sys.exit("the stack did not start")
        told = json.loads(line)
        self.environment, self.ends = told["environment"], told["ends"]
        self.secrets = [*told["secrets"].values(), API_KEY, WEBHOOK_TOKEN, WEBHOOK_PATH]
        self.signing_secret = told["secrets"]["signing"]

    def do(self, what):
        self.program.stdin.write(f"{what}\n")
        self.program.stdin.flush()
        if self.program.stdout.readline() != "done\n":
            sys.exit(f"the stack could not do: {what}")

    def end(self):
        self.program.stdin.close()
        self.program.wait()


class Terminal:
    """A terminal on which commands run one after the other."""

    def __init__(self, programs, stack):
        self.programs, self.stack, self.written = programs, stack, b""

    def run(self, arguments, answers=(), code=0):
        """Runs the program; each answer is typed when it asks and no longer shows what is typed."""
        self.written += f"\x1b[1m$ relayctl {arguments}\x1b[0m\r\n".encode()
        environment = {**self.stack.environment, "TERM": "xterm-256color", "TZ": "UTC"}
        command = [str(self.programs / "relayctl"), *arguments.split()]
        program = PtyProcess.spawn(command, cwd=str(ROOT), env=environment, dimensions=(ROWS, COLUMNS))
        answers, said, end = list(answers), b"", time.monotonic() + PATIENCE
        while True:
            if time.monotonic() > end:
                program.terminate(force=True)
                sys.exit(f"relayctl {arguments} does not come to its end; it said {said!r}")
            try:
                piece = program.read(65536)
            except EOFError:
                break
            said += piece
            self.written += piece
            if answers and said.endswith(b"]: "):
                if not program.waitnoecho(timeout=PATIENCE):
                    sys.exit("relayctl asks, and shows what is typed")
                program.write(f"{answers.pop(0)}\n".encode())
                said = b""
        program.wait()
        if program.exitstatus != code or answers:
            sys.exit(f"relayctl {arguments} ended with {program.exitstatus}; it said {said.decode()}")
        self.written += b"\r\n"

    def guard(self):
        """Nothing secret, and nothing of this machine, may be among the bytes, whether they can be seen or not."""
        written = self.written.decode()
        for place, secret in enumerate(self.stack.secrets):
            if secret in written:
                sys.exit(f"a secret is in what relayctl wrote: number {place} of those that the stack knows and that are typed")
        for place in (str(ROOT), str(pathlib.Path.home()) + "/"):
            if place in written:
                sys.exit(f"{place} is in what relayctl wrote")

    def picture(self):
        """What is on the screen at the end."""
        self.guard()
        text = self.written.decode()
        for pattern, shown in masks(self.stack.ends):
            text = re.sub(pattern, shown, text)
        if "127.0.0.1" in text:
            sys.exit("an address of this machine would be shown")
        return Screen(COLUMNS, ROWS).feed(text)


def pictures(programs, stack):
    setup = Terminal(programs, stack)
    setup.run("setup", [API_KEY, stack.signing_secret, stack.ends["clay"] + WEBHOOK_PATH, WEBHOOK_TOKEN])
    yield "setup", setup
    stack.do("row")
    doctor = Terminal(programs, stack)
    doctor.run("doctor")
    yield "doctor", doctor
    stack.do("three-letters")
    letters = Terminal(programs, stack)
    letters.run("dead-letters list")
    letters.run("dead-letters retry --reason clay_rejected")
    letters.run("dead-letters retry --reason clay_rejected --yes")
    yield "dead-letters", letters


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    programs, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    stack = Stack(programs)
    try:
        for name, terminal in pictures(programs, stack):
            screen = terminal.picture()
            (folder / f"{name}.svg").write_text(draw(screen, name), encoding="utf-8")
    finally:
        stack.end()


if __name__ == "__main__":
    main()
