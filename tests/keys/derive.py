#!/usr/bin/env python3
"""The key of an event, written from docs/event-keys.md alone, and compared with the published vectors.

It shares nothing with the relay but that text: what it derives from the events of vectors.json must be the keys there.
"""

import hashlib
import json
import pathlib
import re
import sys
from decimal import Decimal

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Typed(str):
    """A JSON number, as it was typed."""


def plain(typed):
    mantissa, _, exponent = typed.lower().partition("e")
    if not mantissa.strip("-0."):
        return "0"
    if abs(int(exponent or "0")) >= 10**15:
        return typed
    sign, digits, power = Decimal(typed).as_tuple()
    digits = "".join(map(str, digits)).lstrip("0")
    significant = digits.rstrip("0")
    power += len(digits) - len(significant)
    point = len(significant) + power
    if abs(power) > 60 or abs(point) > 60:
        text = f"{significant}e{power}"
    elif power >= 0:
        text = significant + "0" * power
    elif point > 0:
        text = significant[:point] + "." + significant[point:]
    else:
        text = "0." + "0" * -point + significant
    return ("-" if sign else "") + text


def as_text(value):
    if isinstance(value, Typed):
        return plain(value)
    if isinstance(value, str):
        return plain(value) if NUMBER.fullmatch(value) else value
    return "true" if value else "false"


def key(event):
    event = json.loads(event, parse_int=Typed, parse_float=Typed)
    properties = event.get("eventProperties") or {}
    pairs = sorted(
        ([name, as_text(value)] for name, value in properties.items() if value is not None),
        key=lambda pair: pair[0].encode(),
    )
    array = ["1", event["eventName"], (event.get("email") or "").lower(), event.get("userId") or "", pairs]
    text = json.dumps(array, ensure_ascii=False, separators=(",", ":"))
    return "relay-" + hashlib.sha256(text.encode()).hexdigest()


def main():
    sys.set_int_max_str_digits(0)
    path = pathlib.Path(__file__).with_name("vectors.json")
    vectors = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    wrong = [f"{vector['name']}: {key(vector['sent'])}" for vector in vectors if key(vector["sent"]) != vector["key"]]
    if wrong or len(vectors) < 20:
        sys.exit(f"{len(wrong)} of {len(vectors)} keys are not the published ones:\n" + "\n".join(wrong))
    print(f"{len(vectors)} keys are the published ones")


if __name__ == "__main__":
    main()
