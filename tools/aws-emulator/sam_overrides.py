"""Prints the parameters for `sam deploy`, quoted for a shell: those of samconfig.toml, then those of the command line.

usage: sam_overrides.py ARCHITECTURE [KEY=VALUE ...]

Parameters on the command line of `sam deploy` replace all those of samconfig.toml. `make deploy` must pass the architecture,
because the functions are built for it, and so it passes the others as well.
"""

import pathlib
import shlex
import sys
import tomllib


def overrides(config, arguments):
    """Returns each parameter once, with its last value.

    >>> print(overrides({}, ["Architecture=arm64"]))
    'Architecture="arm64"'
    >>> saved = {"parameter_overrides": 'AlarmEmail="ada@example.com" RelayedEvents="contact.created,email.*" Architecture=x86_64'}
    >>> print(overrides(saved, ["Architecture=arm64", "LoopsRatePerSecond=4"]))
    'AlarmEmail="ada@example.com"' 'RelayedEvents="contact.created,email.*"' 'Architecture="arm64"' 'LoopsRatePerSecond="4"'
    >>> print(overrides({"parameter_overrides": ["ContactSource=a b"]}, ["AlarmEmail="]))
    'ContactSource="a b"' 'AlarmEmail=""'
    """
    saved = config.get("parameter_overrides", [])
    pairs = (saved if isinstance(saved, list) else shlex.split(saved)) + arguments
    values = dict(pair.split("=", 1) for pair in pairs)
    # SAM accepts an empty value, or one with spaces, only in quotes.
    return shlex.join(f'{key}="{value}"' for key, value in values.items())


def main(architecture, *arguments):
    path = pathlib.Path("samconfig.toml")
    config = tomllib.loads(path.read_text()) if path.exists() else {}
    default = config.get("default", {})
    parameters = {**default.get("global", {}).get("parameters", {}), **default.get("deploy", {}).get("parameters", {})}
    print(overrides(parameters, [f"Architecture={architecture}", *arguments]))


if __name__ == "__main__":
    main(*sys.argv[1:])
