"""Is what the docs say so?

usage: check.py [FOLDER]

Looks at the docs of the repository (FOLDER, as a rule the one that this file is in): links lead somewhere, targets of make
are there, the workflow runs what `make test` runs, versions agree, what AWS' application repository asks of a template is
kept, each limit is where docs/limits.md says, each line of doctor has its section in the runbook, and pictures are shown and
of today. It prints what is wrong, and ends with 1 where anything is.
"""

import html
import pathlib
import re
import sys

import yaml

TARGET = re.compile(r"^([a-z0-9-]+):(?: |$)", re.MULTILINE)


class Docs:
    """The repository, and what is wrong with it."""

    def __init__(self, root):
        self.root, self.wrong = root, []
        self.pages = sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "crates").glob("*/README.md"), root / "tests" / "README.md", root / "events" / "README.md"])
        self.makefile = self.read("Makefile")
        self.targets = set(TARGET.findall(self.makefile))

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def say(self, page, words):
        self.wrong.append(f"{page.relative_to(self.root) if isinstance(page, pathlib.Path) else page}: {words}")


def prose(text):
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """The names that GitHub gives the headings."""
    seen, names = {}, set()
    for heading in re.findall(r"^#+ +(.*)$", prose(text), flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
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
                docs.say(page, f"the link {target} leads nowhere")
            elif anchor and anchor not in anchors(there.read_text(encoding="utf-8")):
                docs.say(page, f"{target}: there is no such heading")


def merges(docs):
    for page in docs.pages:
        if re.search(r"^(<{7}|>{7}) ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            docs.say(page, "a merge was left half done in it")


def links_to_the_runbook(docs):
    """Alarms and the operator's program name sections of the runbook."""
    sources = [docs.root / "template.yaml", *sorted((docs.root / "crates").glob("*/src/**/*.rs"))]
    known = anchors(docs.read("docs/runbook.md"))
    for source in sources:
        for anchor in re.findall(r"docs/runbook\.md#([a-z0-9-]+)", source.read_text(encoding="utf-8")):
            if anchor not in known:
                docs.say(source, f"docs/runbook.md has no section #{anchor}")


def lines_of_doctor(docs):
    """Each line that `relayctl doctor` prints has a section of the runbook, and each such section a line."""
    checks = docs.read("crates/relayctl/src/doctor/check.rs")
    variants = re.findall(r'^(?:    #\[strum\(serialize = "([a-z-]+)"\)\]\n)?    ([A-Z]\w+),$', checks, flags=re.MULTILINE)
    names = [name or re.sub(r"(?<!^)(?=[A-Z])", "-", variant).lower() for name, variant in variants]
    page = docs.root / "docs" / "runbook.md"
    sections = re.findall(r"^### doctor: (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not names:
        docs.say("crates/relayctl/src/doctor/check.rs", "no check of doctor is found in it")
    for name in names:
        if name not in sections:
            docs.say(page, f"the line {name} of doctor has no section")
    for name in sections:
        if name not in names:
            docs.say(page, f"doctor prints no line {name}")


def targets(docs):
    for page in docs.pages:
        text = page.read_text(encoding="utf-8")
        # In code only: the word is an English one, too.
        for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE):
            if target not in docs.targets:
                docs.say(page, f"there is no `make {target}`")


def workflow(docs):
    path = docs.root / ".github" / "workflows" / "ci.yml"
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in described["jobs"].values() for step in job["steps"]]
    runs = {target for step in steps for target in re.findall(r"\bmake ([a-z0-9-]+)", step.get("run", ""))}
    for target in sorted(runs - docs.targets):
        docs.say(path, f"there is no `make {target}`")
    parts = set(re.search(r"^test: ([a-z0-9 -]+?) *##", docs.makefile, flags=re.MULTILINE)[1].split())
    for target in sorted((parts | {"test-arm64", "deny"}) - runs):
        docs.say(path, f"`make {target}` is not run")
    for step in steps:
        if "uses" in step and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]):
            docs.say(path, f"{step['uses']} is not pinned to a commit")
    if described.get("permissions") != {}:
        docs.say(path, "the workflow's own permissions must be none (`permissions: {}`)")
    for name, job in described["jobs"].items():
        if job.get("permissions") != {"contents": "read"}:
            docs.say(path, f"the job {name} must have `permissions: {{contents: read}}`")


class Template(yaml.SafeLoader):
    """Reads a template without minding its functions."""


Template.add_multi_constructor("!", lambda loader, tag, node: None)


def versions(docs):
    version = re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"', docs.read("Cargo.toml"), flags=re.MULTILINE)[1]
    template = yaml.load(docs.read("template.yaml"), Template)
    about = template["Metadata"]["AWS::ServerlessRepo::Application"]
    if about["SemanticVersion"] != version:
        docs.say("template.yaml", f"SemanticVersion is {about['SemanticVersion']}, and Cargo.toml has {version}")
    if yaml.safe_load(docs.read("openapi.yaml"))["info"]["version"] != version:
        docs.say("openapi.yaml", f"info.version is not {version}, as Cargo.toml has it")
    if not re.search(rf"^## \[{re.escape(version)}\]", docs.read("CHANGELOG.md"), flags=re.MULTILINE):
        docs.say("CHANGELOG.md", f"there is no section for {version}")


def application(docs):
    """What the AWS Serverless Application Repository takes."""
    about = yaml.load(docs.read("template.yaml"), Template)["Metadata"]["AWS::ServerlessRepo::Application"]
    forms = {
        "Name": r"[a-zA-Z0-9-]{1,140}",
        "Description": r".{1,256}",
        "Author": r"(?=.{1,127}$)[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?",
        "SpdxLicenseId": r"[A-Za-z0-9.-]+",
        "HomePageUrl": r"https://\S+",
        "SourceCodeUrl": r"https://\S+",
        "SemanticVersion": r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?",
    }
    for name, form in forms.items():
        if not re.fullmatch(form, str(about.get(name, ""))):
            docs.say("template.yaml", f"{name} does not have the form that the application repository takes")
    labels = about.get("Labels", [])
    if not 1 <= len(labels) <= 10 or not all(re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label) for label in labels):
        docs.say("template.yaml", "Labels must be one to ten words")
    for name in ("LicenseUrl", "ReadmeUrl"):
        if not (docs.root / about[name]).is_file():
            docs.say("template.yaml", f"{name}: there is no file {about[name]}")


def limits(docs):
    """A limit that is set in the code is named as `NAME` in [file](../file); the name is in the file."""
    page = docs.root / "docs" / "limits.md"
    named = re.findall(r"`([A-Za-z_]+)` in \[[^\]]+\]\(\.\./([^)]+)\)", page.read_text(encoding="utf-8"))
    if not named:
        docs.say(page, "no limit says where it is set")
    for name, path in named:
        source = docs.root / path
        if source.is_file() and not re.search(rf"\b{name}\b", source.read_text(encoding="utf-8")):
            docs.say(page, f"there is no {name} in {path}")


def pictures(docs):
    """Each picture is shown somewhere, with words for who does not see it, and shows what the script runs that draws it."""
    shown = {}
    for page in docs.pages:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
            shown[(page.parent / target).resolve()] = words
            if not words:
                docs.say(page, f"{target} is shown without words for who does not see it")
    script = docs.read("tools/screenshots/take.py")
    for picture in sorted((docs.root / "docs" / "images").iterdir()):
        if picture.resolve() not in shown:
            docs.say(picture, "no paper shows it")
        text = html.unescape(picture.read_text(encoding="utf-8")).replace("\xa0", " ")
        commands = re.findall(r">\$ relayctl ([^<]+?) *<", text)
        if not commands:
            docs.say(picture, "it shows no command")
        for command in commands:
            if f'.run("{command}"' not in script:
                docs.say(picture, f"take.py does not run `relayctl {command}`: `make screenshots` draws it anew")


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    docs = Docs(root)
    for look in (links, merges, links_to_the_runbook, lines_of_doctor, targets, workflow, versions, application, limits, pictures):
        look(docs)
    for words in docs.wrong:
        print(words, file=sys.stderr)
    sys.exit(1 if docs.wrong else 0)


if __name__ == "__main__":
    main()
