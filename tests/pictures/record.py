"""Records a scene of relayctl on a terminal, and draws what the terminal shows then.

usage: record.py FOLDER SCENE

Writes FOLDER/SCENE.svg. The program runs for real, in a pseudo-terminal, and what it is asked for is typed; `make pictures`
gives it a stack to work on, and the environment has what a person would know.
"""

import itertools
import os
import re
import sys
from pathlib import Path

import pexpect
import pyte
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 128, 100
PATIENCE = 60  # seconds
THEME = MONOKAI
# rich's own picture of a terminal, without the font that it would fetch from elsewhere.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
FORMAT = FORMAT.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
SECRETS = ["LOOPS_API_KEY", "LOOPS_SIGNING_SECRET", "CLAY_WEBHOOK_URL", "CLAY_WEBHOOK_AUTH_TOKEN", "RELAY_TOKEN"]

# What differs from run to run, each beside what takes its place. That is as long, so everything stays in its place.
CHANGING = [
    (r"(?<=127\.0\.0\.1:)\d{5}", "54321"),  # ports
    (r"\d{4}-\d\d-\d\d(?=[ T]\d\d:)", "2026-12-01"),
    (r"(?<=[ T])\d\d:\d\d:\d\d(?=[.Z])", "09:30:00"),
    (r"(?<=:00\.)\d{3}(?=Z)", "000"),
    (r"(?<=1\. )[0-9a-f]{8}\b", "5e7ec7ed"),  # what tells a secret from another one
    (r"\b[0-9a-f]{16}\b", "0123456789abcdef"),  # what stands for a webhook's URL
    (r"(?<=contact_)[0-9a-f]{32}", "0123456789abcdef" * 2),  # ids that are drawn
]


class Terminal:
    """A terminal of a fixed width that a person types into."""

    def __init__(self):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.screen.set_mode(pyte.modes.LNM)
        self.stream = pyte.Stream(self.screen)
        self.seen = ""

    def run(self, line, answers=()):
        """Runs relayctl with these arguments, as a person types them behind a prompt; gives how it ended."""
        self.show(f"\x1b[1;32m$\x1b[0m relayctl {line}\n")
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "TZ": "UTC"}
        environment = {name: value for name, value in environment.items() if name not in SECRETS}
        child = pexpect.spawn(
            os.environ["RELAYCTL"], line.split(), env=environment, dimensions=(ROWS, COLUMNS), timeout=PATIENCE, encoding="utf-8"
        )
        for prompt, variable in answers:
            child.expect(prompt)
            self.show(child.before + child.after)
            child.waitnoecho()
            child.sendline(os.environ[variable])
        child.expect(pexpect.EOF)
        self.show(child.before)
        child.close()
        return child.exitstatus

    def show(self, text):
        self.seen += text
        self.stream.feed(text)

    def lines(self):
        """What the terminal shows, without the empty rest."""
        lines = [self.line(number) for number in range(ROWS)]
        while lines and not lines[-1].plain.strip():
            lines.pop()
        return lines

    def line(self, number):
        cells = [self.screen.buffer[number][column] for column in range(COLUMNS)]
        shown = fixed("".join(cell.data for cell in cells))
        styles = [Style(color=color(cell.fg), bold=cell.bold, reverse=cell.reverse) for cell in cells]
        text = Text()
        for style, letters in itertools.groupby(zip(styles, shown, strict=True), key=lambda pair: pair[0]):
            text.append("".join(letter for _, letter in letters), style)
        text.rstrip()
        return text


def fixed(line):
    """The line without what differs from run to run."""
    for pattern, instead in CHANGING:
        line = re.sub(pattern, instead, line)
    return line


def color(name):
    """The terminal's colour as rich calls it."""
    return {"default": None, "brown": "yellow"}.get(name, name)


def draw(lines, title, path):
    quiet = open(os.devnull, "w", encoding="utf-8")
    console = Console(record=True, width=COLUMNS, file=quiet, color_system="standard", force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop")
    svg = console.export_svg(title=title, theme=THEME, code_format=FORMAT, unique_id=path.stem)
    # Each line of the file ends where its text ends.
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


SCENES = {
    "setup": [("setup", [(": ", name) for name in SECRETS[:4]])],
    "doctor": [("doctor", [])],
    "dead-letters": [
        ("dead-letters list", []),
        ("dead-letters retry --reason clay_rejected", []),
        ("dead-letters retry --reason clay_rejected --yes", []),
    ],
}


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in SCENES:
        sys.exit(__doc__)
    folder, scene = Path(sys.argv[1]), sys.argv[2]
    terminal = Terminal()
    for line, answers in SCENES[scene]:
        ended = terminal.run(line, answers)
        if ended != 0:
            sys.exit(f"relayctl {line} ended with {ended}: {terminal.seen}")
    shown = [os.environ[name] for name in SECRETS if os.environ[name] in terminal.seen]
    if shown:
        sys.exit(f"relayctl {scene} has shown {len(shown)} of the secrets that were typed: there is no picture of that")
    draw(terminal.lines(), f"relayctl {scene}", folder / f"{scene}.svg")


if __name__ == "__main__":
    main()
