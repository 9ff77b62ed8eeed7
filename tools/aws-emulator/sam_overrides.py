"""The parameters for `sam deploy`, as words for a shell: those of samconfig.toml, then those of the command line.

usage: sam_overrides.py ARCHITECTURE [KEY=VALUE ...]

What `sam deploy` is given by its command line takes the place of all that samconfig.toml has. `make deploy` has to give the
processor, because the functions are built for it; so it gives the others along.
"""

import pathlib
import shlex
import sys
import tomllib


def overrides(config, given):
    """Each parameter once, by its last value.

    >>> print(overrides({}, ["Architecture=arm64"]))
    'Architecture="arm64"'
    >>> kept = {"parameter_overrides": 'AlarmEmail="ada@example.com" RelayedEvents="contact.created,email.*" Architecture=x86_64'}
    >>> print(overrides(kept, ["Architecture=arm64", "LoopsRatePerSecond=4"]))
    'AlarmEmail="ada@example.com"' 'RelayedEvents="contact.created,email.*"' 'Architecture="arm64"' 'LoopsRatePerSecond="4"'
    >>> print(overrides({"parameter_overrides": ["ContactSource=a b"]}, ["AlarmEmail="]))
    'ContactSource="a b"' 'AlarmEmail=""'
    """
    kept = config.get("parameter_overrides", [])
    words = (kept if isinstance(kept, list) else shlex.split(kept)) + given
    values = dict(word.split("=", 1) for word in words)
    # SAM takes a value with spaces, or without anything, in quotes only.
    return shlex.join(f'{key}="{value}"' for key, value in values.items())


def main(architecture, *given):
    path = pathlib.Path("samconfig.toml")
    config = tomllib.loads(path.read_text()) if path.exists() else {}
    default = config.get("default", {})
    parameters = {**default.get("global", {}).get("parameters", {}), **default.get("deploy", {}).get("parameters", {})}
    print(overrides(parameters, [f"Architecture={architecture}", *given]))


if __name__ == "__main__":
    main(*sys.argv[1:])
