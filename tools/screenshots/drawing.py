"""Renders a terminal's output as an SVG."""

import io
import itertools
import re

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

# Colour names of pyte, and those of rich.
COLOURS = {"brown": "yellow", "default": None}


class Screen:
    """The screen of a terminal."""

    def __init__(self, columns, rows):
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.Stream(self.screen)

    def feed(self, text):
        self.stream.feed(text)
        return self

    def rows(self):
        """Returns the lines up to the last non-empty one, without trailing spaces."""
        rows = [row.rstrip() for row in self.screen.display]
        return rows[: max((index + 1 for index, row in enumerate(rows) if row), default=0)]

    def lines(self):
        """Returns the lines as rich texts, with colours."""
        for index, row in enumerate(self.rows()):
            line = Text()
            cells = (self.screen.buffer[index][column] for column in range(len(row)))
            # Cells of the same style are one span, which makes the SVG smaller.
            for (colour, bold), alike in itertools.groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
                text = "".join(cell.data for cell in alike)
                line.append(text, Style(color=COLOURS.get(colour, colour), bold=bold))
            yield line


def draw(screen, name):
    """Returns an SVG without external resources, the same for the same screen."""
    lines = list(screen.lines())
    # A margin of two columns, so that a wider font of the reader is not cut.
    width = screen.screen.columns + 2
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="standard")
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", highlight=False)
    svg = console.export_svg(title="relayctl", unique_id=name)
    # Browsers load no external fonts in an image, so the reader's own are named instead.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
