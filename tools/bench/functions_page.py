"""Writes the tables of the functions in docs/performance.md from docs/bench-functions.json (written by `make bench-functions`).

usage: functions_page.py [--check]

With --check nothing is written; the exit code is 1 if the page is out of date.
"""

import json
import pathlib
import sys

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- tables of bench-functions.json -->\n", "<!-- end of the tables -->\n"

LABELS = {
    "bare-threaded": "a bare `lambda_http` function, worker threads",
    "bare-function": "a bare `lambda_http` function, one thread",
    "lambda-node": "Node: `aws-lambda-ric`, `standardwebhooks`, AWS SDK",
    "lambda-python": "Python: `awslambdaric`, `standardwebhooks`, boto3",
}
BARE, SAME_JOB = "bare-threaded", "loops-to-clay"
PEERS = ("lambda-node", "lambda-python")


def label(name):
    return LABELS.get(name, f"`{name}`")


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def milliseconds(spread):
    """Returns the median of some microseconds, and the range of the middle eight tenths."""
    if spread is None:
        return "–"
    median, low, high = (f"{spread[name] / 1000:.2f}" for name in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def megabytes(number):
    return "–" if number is None else f"{number / 1e6:.2f}"


def times(functions, name, other, phase):
    median = lambda which: functions[which]["cpu_micros"][phase]["median"]  # noqa: E731
    return f"{median(name) / median(other):.2f}"


def tables(report):
    functions = report["functions"]
    counted = {name: each for name, each in functions.items() if each["instructions"]}
    cpu = table(
        ["function", "zip MB", "start, CPU ms", "× bare", "first event, CPU ms", "later event, CPU ms", "of it its own work", "peak MB"],
        [
            [
                label(name),
                megabytes(each["zip_bytes"]),
                milliseconds(each["cpu_micros"]["start"]),
                times(functions, name, BARE, "start"),
                *(milliseconds(each["cpu_micros"][phase]) for phase in ("first_event", "later_event", "own_work")),
                megabytes(each["peak_memory_bytes"]["median"]),
            ]
            for name, each in counted.items()
        ],
    )
    instructions = table(
        ["function", "start", "first event", "later event"],
        [
            [label(name), *(f"{each['instructions'][phase] / 1e6:.2f}" for phase in ("start", "first_event", "later_event"))]
            for name, each in counted.items()
        ],
    )
    peers = table(
        ["the same job", "start, CPU ms", "×", "start, ms", "first event, CPU ms", "×", "later event, CPU ms", "×", "peak MB"],
        [
            [
                label(name),
                milliseconds(functions[name]["cpu_micros"]["start"]),
                times(functions, name, SAME_JOB, "start"),
                milliseconds(functions[name]["wall_micros"]["start"]),
                milliseconds(functions[name]["cpu_micros"]["first_event"]),
                times(functions, name, SAME_JOB, "first_event"),
                milliseconds(functions[name]["cpu_micros"]["later_event"]),
                times(functions, name, SAME_JOB, "later_event"),
                megabytes(functions[name]["peak_memory_bytes"]["median"]),
            ]
            for name in (SAME_JOB, *PEERS)
        ],
    )
    steps = ", ".join(f"{name} {count:,}" for name, count in report["instructions_of_steps"].items())
    return (
        f"Median of {report['runs']} starts in turns, and in parentheses between what the middle eight tenths of them lie; "
        f"{report['events_per_run']} events after the first. Processor: {report['processor']}.\n\n"
        f"{cpu}\nMillions of instructions in user mode, counted by callgrind:\n\n{instructions}\n"
        f"Instructions of a step of `relay-core`: {steps}.\n\n"
        f"Beside what a user would write for the job of `loops-to-clay` (`tools/bench/peers`):\n\n{peers}"
    )


def main():
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page = before + BEGIN + "\n" + tables(json.loads((DOCS / "bench-functions.json").read_text())) + "\n" + END + after
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif page != text:
        sys.exit("docs/performance.md does not match docs/bench-functions.json: run tools/bench/functions_page.py")


if __name__ == "__main__":
    main()
