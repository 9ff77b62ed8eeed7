"""From a terminal's bytes to a picture: what is on the screen, and how it is drawn."""

import io
import itertools
import re

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

# What pyte calls the colours, and what rich does.
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
        """The lines down to the last that has something, without what is empty at their ends."""
        rows = [row.rstrip() for row in self.screen.display]
        return rows[: max((place + 1 for place, row in enumerate(rows) if row), default=0)]

    def lines(self):
        """The same as rich has them, in colours."""
        for place, row in enumerate(self.rows()):
            line = Text()
            cells = (self.screen.buffer[place][column] for column in range(len(row)))
            # What looks the same is one piece: a picture is small where its pieces are few.
            for (colour, bold), alike in itertools.groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
                text = "".join(cell.data for cell in alike)
                line.append(text, Style(color=COLOURS.get(colour, colour), bold=bold))
            yield line


def draw(screen, name):
    """An SVG, the same for the same screen, which needs nothing from elsewhere."""
    lines = list(screen.lines())
    # A margin of two columns: where the reader's font is wider, nothing is cut.
    width = screen.screen.columns + 2
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="standard")
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", highlight=False)
    svg = console.export_svg(title="relayctl", unique_id=name)
    # Fonts from elsewhere are not loaded in a picture: the reader's own are named instead.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
