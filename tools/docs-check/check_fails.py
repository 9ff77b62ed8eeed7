"""Each thing that check.py looks at is broken in turn, in a copy of the papers: the check must say so.

usage: check_fails.py
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECK = pathlib.Path(__file__).with_name("check.py")
# What there is in a repository besides what is built or installed.
LEFT_OUT = shutil.ignore_patterns("target", ".git", ".venv*", ".ci", ".relay", ".aws-sam", "node_modules")

# What is broken: a file, a text in it, what it becomes, and a part of what must be said.
BREAKAGES = [
    ("README.md", "docs/limits.md", "docs/limit.md", "leads nowhere"),
    ("docs/decisions.md", "## Network", "<<<<<<< HEAD\n## Network", "half done"),
    ("docs/runbook.md", "](#doctor)", "](#docter)", "no such heading"),
    ("template.yaml", "Transform:", "# docs/runbook.md#no-such-name\nTransform:", "no section #no-such-name"),
    ("docs/runbook.md", "### doctor: clay-queue", "### doctor: clay-row", "the line clay-queue of doctor has no section"),
    ("docs/runbook.md", "### doctor: folder", "### doctor: drawer", "doctor prints no line drawer"),
    ("crates/relayctl/src/doctor/check.rs", '"far-ends"', '"ends"', "the line ends of doctor has no section"),
    ("crates/relayctl/src/doctor/check.rs", ' => "', ' = "', "no check of doctor is found"),
    ("docs/upgrade.md", "make deploy ", "make deplay ", "no `make deplay`"),
    (".github/workflows/ci.yml", "make test-event-keys", "make key", "no `make key`"),
    (".github/workflows/ci.yml", "- run: make check-binaries", "", "`make check-binaries` is not run"),
    (".github/workflows/ci.yml", "@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "@v5", "not pinned"),
    (".github/workflows/ci.yml", "permissions: {}", "permissions: write-all", "must be none"),
    (".github/workflows/ci.yml", "{contents: read}", "{contents: write}", "must have `permissions"),
    ("template.yaml", "SemanticVersion: ", "SemanticVersion: 9", "SemanticVersion is"),
    ("openapi.yaml", "version: ", "version: 9", "info.version"),
    ("CHANGELOG.md", "## [", "## [9", "no section for"),
    ("template.yaml", "Name: loops-clay-relay", "Name: loops clay relay", "Name does not have the form"),
    ("template.yaml", "LicenseUrl: LICENSE-MIT", "LicenseUrl: LICENCE", "there is no file"),
    ("README.md", "docs/images/doctor.svg", "docs/images/docter.svg", "leads nowhere"),
    ("README.md", "(docs/images/doctor.svg)", "(docs/images/setup.svg)", "no paper shows it"),
    ("README.md", "![`relayctl doctor`", "![](docs/images/doctor.svg) [`relayctl doctor`", "without words"),
    ("tools/screenshots/take.py", '.run("doctor"', '.run("examine"', "`make screenshots` draws it anew"),
    ("docs/limits.md", "`MAX_CLAY_PAYLOAD_BYTES`", "`CLAY_KILOBYTES`", "no CLAY_KILOBYTES"),
]


def said(root):
    done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "papers"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT, symlinks=True)
        for name, text, broken, expected in BREAKAGES:
            file = copy / name
            whole = file.read_text(encoding="utf-8")
            if text not in whole:
                print(f"{name} has no {text!r} to break", file=sys.stderr)
                failed += 1
                continue
            file.write_text(whole.replace(text, broken), encoding="utf-8")
            code, words = said(copy)
            file.write_text(whole, encoding="utf-8")
            if code != 1 or expected not in words:
                print(f"{name}, {text!r} made {broken!r}: check.py ends with {code} and says {words!r}", file=sys.stderr)
                failed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
