"""Checks the docs against the repository.

usage: check.py [FOLDER]

FOLDER is the repository, by default the one that contains this file. Checked are: links have targets, make targets exist, the
workflow runs what `make test` runs, versions agree, the template meets the rules of AWS' application repository, each limit is
in the file that docs/limits.md names, each check of doctor has its section in the runbook, each test that docs/field-cases.md
names is there, screenshots are used and up to date, and the figures of README.md are those that were measured. It prints the problems, and exits with 1 if there are any.
"""

import html
import json
import pathlib
import re
import sys

import yaml

TARGET = re.compile(r"^([a-z0-9-]+):(?: |$)", re.MULTILINE)


class Docs:
    """The repository and the problems found in it."""

    def __init__(self, root):
        self.root, self.problems = root, []
        self.pages = sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "crates").glob("*/README.md"), root / "tests" / "README.md", root / "examples" / "README.md", root / "events" / "README.md", root / "tools" / "bench" / "README.md"])
        self.makefile = self.read("Makefile")
        self.targets = set(TARGET.findall(self.makefile))

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def report(self, page, message):
        self.problems.append(f"{page.relative_to(self.root) if isinstance(page, pathlib.Path) else page}: {message}")


def prose(text):
    """Returns the text without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """Returns the anchors that GitHub gives the headings."""
    seen, names = {}, set()
    for heading in re.findall(r"^#+ +(.*)$", prose(text), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = seen.get(name, 0)
        seen[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def links(docs):
    for page in docs.pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists():
                docs.report(page, f"the link {target} leads nowhere")
            elif anchor and anchor not in anchors(there.read_text(encoding="utf-8")):
                docs.report(page, f"{target}: there is no such heading")


def merges(docs):
    for page in docs.pages:
        if re.search(r"^(<{7}|>{7}) ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            docs.report(page, "a merge was left half done in it")


def links_to_the_runbook(docs):
    """Alarms and the CLI name sections of the runbook."""
    sources = [docs.root / "template.yaml", *sorted((docs.root / "crates").glob("*/src/**/*.rs"))]
    known = anchors(docs.read("docs/runbook.md"))
    for source in sources:
        for anchor in re.findall(r"docs/runbook\.md#([a-z0-9-]+)", source.read_text(encoding="utf-8")):
            if anchor not in known:
                docs.report(source, f"docs/runbook.md has no section #{anchor}")


def decisions(docs):
    """Each decision record is named by the code that embodies it, and the code names no other."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((docs.root / "crates").glob("*/src/**/*.rs"))}
    named = {record: path for path, text in sources.items() for record in re.findall(r"docs/adr/(\S+\.md)", text)}
    records = {path.name for path in (docs.root / "docs" / "adr").glob("0*.md")}
    for record in sorted(records - named.keys()):
        docs.report(docs.root / "docs" / "adr" / record, "no module names it")
    for record in sorted(named.keys() - records):
        docs.report(named[record], f"there is no docs/adr/{record}")


def doctor_checks(docs):
    """Each line that `relayctl doctor` prints has a section of the runbook, and each such section a line."""
    checks = docs.read("crates/relay-doctor/src/check.rs")
    variants = re.findall(r'^(?:    #\[strum\(serialize = "([a-z-]+)"\)\]\n)?    ([A-Z]\w+),$', checks, flags=re.MULTILINE)
    names = [name or re.sub(r"(?<!^)(?=[A-Z])", "-", variant).lower() for name, variant in variants]
    page = docs.root / "docs" / "runbook.md"
    sections = re.findall(r"^### doctor: (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not names:
        docs.report("crates/relay-doctor/src/check.rs", "no check of doctor is found in it")
    for name in names:
        if name not in sections:
            docs.report(page, f"the line {name} of doctor has no section")
    for name in sections:
        if name not in names:
            docs.report(page, f"doctor prints no line {name}")


def targets(docs):
    for page in docs.pages:
        text = page.read_text(encoding="utf-8")
        # In code only: "make" is a plain English verb, too.
        for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE):
            if target not in docs.targets:
                docs.report(page, f"there is no `make {target}`")


def workflow(docs):
    path = docs.root / ".github" / "workflows" / "ci.yml"
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in described["jobs"].values() for step in job["steps"]]
    runs = {target for step in steps for target in re.findall(r"\bmake ([a-z0-9-]+)", step.get("run", ""))}
    for target in sorted(runs - docs.targets):
        docs.report(path, f"there is no `make {target}`")
    parts = set(re.search(r"^test: ([a-z0-9 -]+?) *##", docs.makefile, flags=re.MULTILINE)[1].split())
    for target in sorted((parts | {"test-arm64", "deny"}) - runs):
        docs.report(path, f"`make {target}` is not run")
    for step in steps:
        if "uses" in step and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]):
            docs.report(path, f"{step['uses']} is not pinned to a commit")
    if described.get("permissions") != {}:
        docs.report(path, "the workflow's own permissions must be none (`permissions: {}`)")
    for name, job in described["jobs"].items():
        if job.get("permissions") != {"contents": "read"}:
            docs.report(path, f"the job {name} must have `permissions: {{contents: read}}`")


class Template(yaml.SafeLoader):
    """Loads a template and ignores its functions."""


Template.add_multi_constructor("!", lambda loader, tag, node: None)


def versions(docs):
    version = re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"', docs.read("Cargo.toml"), flags=re.MULTILINE)[1]
    template = yaml.load(docs.read("template.yaml"), Template)
    about = template["Metadata"]["AWS::ServerlessRepo::Application"]
    if about["SemanticVersion"] != version:
        docs.report("template.yaml", f"SemanticVersion is {about['SemanticVersion']}, and Cargo.toml has {version}")
    if yaml.safe_load(docs.read("openapi.yaml"))["info"]["version"] != version:
        docs.report("openapi.yaml", f"info.version is not {version}, as Cargo.toml has it")
    if not re.search(rf"^## \[{re.escape(version)}\]", docs.read("CHANGELOG.md"), flags=re.MULTILINE):
        docs.report("CHANGELOG.md", f"there is no section for {version}")


def application(docs):
    """The rules of the AWS Serverless Application Repository."""
    about = yaml.load(docs.read("template.yaml"), Template)["Metadata"]["AWS::ServerlessRepo::Application"]
    patterns = {
        "Name": r"[a-zA-Z0-9-]{1,140}",
        "Description": r".{1,256}",
        "Author": r"(?=.{1,127}$)[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?",
        "SpdxLicenseId": r"[A-Za-z0-9.-]+",
        "HomePageUrl": r"https://\S+",
        "SourceCodeUrl": r"https://\S+",
        "SemanticVersion": r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?",
    }
    for name, pattern in patterns.items():
        if not re.fullmatch(pattern, str(about.get(name, ""))):
            docs.report("template.yaml", f"{name} does not have the form that the application repository takes")
    labels = about.get("Labels", [])
    if not 1 <= len(labels) <= 10 or not all(re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label) for label in labels):
        docs.report("template.yaml", "Labels must be one to ten words")
    for name in ("LicenseUrl", "ReadmeUrl"):
        if not (docs.root / about[name]).is_file():
            docs.report("template.yaml", f"{name}: there is no file {about[name]}")


def limits(docs):
    """A limit that is set in the code is named as `NAME` in [file](../file); the name is in the file."""
    page = docs.root / "docs" / "limits.md"
    named = re.findall(r"`([A-Za-z_]+)` in \[[^\]]+\]\(\.\./([^)]+)\)", page.read_text(encoding="utf-8"))
    if not named:
        docs.report(page, "no limit names the file that sets it")
    for name, path in named:
        source = docs.root / path
        if source.is_file() and not re.search(rf"\b{name}\b", source.read_text(encoding="utf-8")):
            docs.report(page, f"there is no {name} in {path}")


def cases_without_test(text, tests):
    r"""Yields what is wrong with the rows of docs/field-cases.md: kind, what the relay does now, its tests.

    >>> tests = {"a_row_is_sent", "an address alone is enough"}
    >>> list(cases_without_test("| Kind | Now | Test |\n|---|---|---|\n| a | b | `a_row_is_sent`, `an address alone is enough` |", tests))
    []
    >>> list(cases_without_test("| a | b | `a_row_is_sent`, `was_taken_out` |", tests))
    ['there is no test `was_taken_out`']
    >>> list(cases_without_test("| a | b | not yet |\n| a | `a_row_is_sent` |", tests))
    ['"a" names no test', '"a" does not have three columns']
    """
    for line in text.splitlines():
        if not line.startswith("|") or re.match(r"\|( Kind \||-)", line):
            continue
        kind, *cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if len(cells) != 2:
            yield f'"{kind}" does not have three columns'
            continue
        named = re.findall(r"`([^`]+)`", cells[1])
        if not named:
            yield f'"{kind}" names no test'
        for name in named:
            if name not in tests:
                yield f"there is no test `{name}`"


def field_cases(docs):
    """Each test that docs/field-cases.md names is one in Rust, Python or JavaScript, or a case of the table of rows."""
    patterns = {
        "crates/**/*.rs": r"\bfn (\w+)",
        "tests/**/*.rs": r"\bfn (\w+)",
        "tools/**/*.py": r"\bdef (\w+)",
        "tools/*/*.test.js": r'\btest\("([^"]+)"',
        "tests/fixtures/rows/*.json": r'"name": "((?:[^"\\]|\\.)+)"',
    }
    tests = {
        name
        for files, pattern in patterns.items()
        for path in docs.root.glob(files)
        for name in re.findall(pattern, path.read_text(encoding="utf-8"))
    }
    page = docs.root / "docs" / "field-cases.md"
    for problem in cases_without_test(page.read_text(encoding="utf-8"), tests):
        docs.report(page, problem)


def screenshots(docs):
    """Each screenshot is used in a page, with an alternative text, and is one that a script takes: with the commands that it runs."""
    used = {}
    for page in docs.pages:
        for description, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
            used[(page.parent / target).resolve()] = description
            if not description:
                docs.report(page, f"{target} has no alternative text")
    script = docs.read("tools/screenshots/take.py")
    for picture in sorted((docs.root / "docs" / "images").iterdir()):
        if picture.resolve() not in used:
            docs.report(picture, "no page shows it")
        if picture.suffix == ".png":
            if f'"{picture.stem}"' not in docs.read("tools/console/screenshots.js"):
                docs.report(picture, "screenshots.js does not take it")
            continue
        if f'"{picture.name}"' in docs.read("tools/console/film.js"):
            continue
        text = html.unescape(picture.read_text(encoding="utf-8")).replace("\xa0", " ")
        commands = re.findall(r">\$ relayctl ([^<]+?) *<", text)
        if not commands:
            docs.report(picture, "it shows no command")
        for command in commands:
            if f'.run("{command}"' not in script:
                docs.report(picture, f"take.py does not run `relayctl {command}`: `make screenshots` draws it anew")


def proof(chaos, bench, functions):
    """Returns what README.md says in figures, from the files that the measurements wrote. What cost_page.py says is checked there.

    >>> run = {"form": "functions", "fault": "500", "is_faulty": True, "sent": 1200, "lost": 0, "doubled_without_need": 0, "sent_twice": 0}
    >>> calm = {**run, "fault": "none", "is_faulty": False}
    >>> load = [{"scenario": name, "callers": callers, "per_second": {"median": rate}, "peak_mb": {"median": memory}}
    ...         for name, callers, rate, memory in (("relay-local", 1, 3032, 13), ("relay-local", 64, 13687, 16.7), ("Node", 64, 3543, 97))]
    >>> bench = {"load": load, "ratios": [{"what": "rate, × Node's", "callers": 64, "ratio": {"median": 3.86}}]}
    >>> start = lambda micros: {"cpu_micros": {"start": {"median": micros}}}
    >>> functions = {"functions": {"loops-to-clay": start(3388), "bare-threaded": start(1894), "lambda-node": start(233320)}}
    >>> for phrase in proof({"runs": [run, calm]}, bench, functions):
    ...     print(phrase)
    0 lost, 0 doubled without need, 0 emailed twice
    1,200 webhooks and rows through 1 kinds of fault
    3.4 ms
    a bare one in 1.9, the same job in Node in 233
    13,700 webhooks a second
    3.9 × Node
    17 MB
    Node 97
    >>> proof({"runs": [{**run, "lost": 1}]}, bench, functions)[0]
    '1 lost, 0 doubled without need, 0 emailed twice'
    """
    faulty = [run for run in chaos["runs"] if run["is_faulty"]]
    total = lambda name: sum(run[name] for run in faulty)  # noqa: E731
    fastest = max((run for run in bench["load"] if run["scenario"] == "relay-local"), key=lambda run: run["per_second"]["median"])
    node = next(run for run in bench["load"] if (run["scenario"], run["callers"]) == ("Node", fastest["callers"]))
    ratio = next(each["ratio"] for each in bench["ratios"] if (each["what"], each["callers"]) == ("rate, × Node's", fastest["callers"]))
    start = {name: each["cpu_micros"]["start"]["median"] / 1000 for name, each in functions["functions"].items()}
    return [
        f"{total('lost')} lost, {total('doubled_without_need')} doubled without need, {total('sent_twice')} emailed twice",
        f"{total('sent'):,} webhooks and rows through {len({run['fault'] for run in faulty})} kinds of fault",
        f"{start['loops-to-clay']:.1f} ms",
        f"a bare one in {start['bare-threaded']:.1f}, the same job in Node in {start['lambda-node']:.0f}",
        f"{round(fastest['per_second']['median'], -2):,.0f} webhooks a second",
        f"{ratio['median']:.1f} × Node",
        f"{fastest['peak_mb']['median']:.0f} MB",
        f"Node {node['peak_mb']['median']:.0f}",
    ]


def figures(docs):
    """README.md has each figure as it was measured."""
    measured = [json.loads(docs.read(f"docs/{name}.json")) for name in ("chaos", "bench", "bench-functions")]
    text = " ".join(docs.read("README.md").split())
    for phrase in proof(*measured):
        if phrase not in text:
            docs.report("README.md", f"measured was: {phrase}")
    if {run["form"] for run in measured[0]["runs"]} != {"relay-local", "functions"}:
        docs.report("docs/chaos.json", "it is not of both deployments: run `make chaos` without FORM")


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    docs = Docs(root)
    for check in (links, merges, links_to_the_runbook, decisions, doctor_checks, targets, workflow, versions, application, limits, field_cases, screenshots, figures):
        check(docs)
    for problem in docs.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if docs.problems else 0)


if __name__ == "__main__":
    main()
