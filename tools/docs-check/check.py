"""Is what the papers say so?

usage: check.py [FOLDER]

Looks at the papers of the repository (FOLDER, as a rule the one that this file is in): links lead somewhere, targets of make
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


class Papers:
    """The repository, and what is wrong with it."""

    def __init__(self, root):
        self.root, self.wrong = root, []
        self.pages = sorted([*root.glob("*.md"), *(root / "docs").glob("*.md"), root / "events" / "README.md"])
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


def links(papers):
    for page in papers.pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists():
                papers.say(page, f"the link {target} leads nowhere")
            elif anchor and anchor not in anchors(there.read_text(encoding="utf-8")):
                papers.say(page, f"{target}: there is no such heading")


def merges(papers):
    for page in papers.pages:
        if re.search(r"^(<{7}|>{7}) ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            papers.say(page, "a merge was left half done in it")


def links_to_the_runbook(papers):
    """Alarms and the operator's program name sections of the runbook."""
    sources = [papers.root / "template.yaml", *sorted((papers.root / "crates").glob("*/src/**/*.rs"))]
    known = anchors(papers.read("docs/runbook.md"))
    for source in sources:
        for anchor in re.findall(r"docs/operations\.md#([a-z0-9-]+)", source.read_text(encoding="utf-8")):
            if anchor not in known:
                papers.say(source, f"docs/runbook.md has no section #{anchor}")


def lines_of_doctor(papers):
    """Each line that `relayctl doctor` prints has a section of the runbook, and each such section a line."""
    checks = papers.read("crates/relayctl/src/doctor/check.rs")
    names = re.findall(r'^    [A-Z]\w+ => "([a-z-]+)",$', checks, flags=re.MULTILINE)
    page = papers.root / "docs" / "runbook.md"
    sections = re.findall(r"^### doctor: (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not names:
        papers.say("crates/relayctl/src/doctor/check.rs", "no check of doctor is found in it")
    for name in names:
        if name not in sections:
            papers.say(page, f"the line {name} of doctor has no section")
    for name in sections:
        if name not in names:
            papers.say(page, f"doctor prints no line {name}")


def targets(papers):
    for page in papers.pages:
        text = page.read_text(encoding="utf-8")
        # In code only: the word is an English one, too.
        for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE):
            if target not in papers.targets:
                papers.say(page, f"there is no `make {target}`")


def workflow(papers):
    path = papers.root / ".github" / "workflows" / "ci.yml"
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in described["jobs"].values() for step in job["steps"]]
    runs = {target for step in steps for target in re.findall(r"\bmake ([a-z0-9-]+)", step.get("run", ""))}
    for target in sorted(runs - papers.targets):
        papers.say(path, f"there is no `make {target}`")
    parts = set(re.search(r"^test: ([a-z0-9 -]+?) *##", papers.makefile, flags=re.MULTILINE)[1].split())
    for target in sorted((parts | {"arm64", "deny"}) - runs):
        papers.say(path, f"`make {target}` is not run")
    for step in steps:
        if "uses" in step and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]):
            papers.say(path, f"{step['uses']} is not pinned to a commit")
    if described.get("permissions") != {}:
        papers.say(path, "the workflow's own permissions must be none (`permissions: {}`)")
    for name, job in described["jobs"].items():
        if job.get("permissions") != {"contents": "read"}:
            papers.say(path, f"the job {name} must have `permissions: {{contents: read}}`")


class Template(yaml.SafeLoader):
    """Reads a template without minding its functions."""


Template.add_multi_constructor("!", lambda loader, tag, node: None)


def versions(papers):
    version = re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"', papers.read("Cargo.toml"), flags=re.MULTILINE)[1]
    template = yaml.load(papers.read("template.yaml"), Template)
    about = template["Metadata"]["AWS::ServerlessRepo::Application"]
    if about["SemanticVersion"] != version:
        papers.say("template.yaml", f"SemanticVersion is {about['SemanticVersion']}, and Cargo.toml has {version}")
    if yaml.safe_load(papers.read("openapi.yaml"))["info"]["version"] != version:
        papers.say("openapi.yaml", f"info.version is not {version}, as Cargo.toml has it")
    if not re.search(rf"^## \[{re.escape(version)}\]", papers.read("CHANGELOG.md"), flags=re.MULTILINE):
        papers.say("CHANGELOG.md", f"there is no section for {version}")


def application(papers):
    """What the AWS Serverless Application Repository takes."""
    about = yaml.load(papers.read("template.yaml"), Template)["Metadata"]["AWS::ServerlessRepo::Application"]
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
            papers.say("template.yaml", f"{name} does not have the form that the application repository takes")
    labels = about.get("Labels", [])
    if not 1 <= len(labels) <= 10 or not all(re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label) for label in labels):
        papers.say("template.yaml", "Labels must be one to ten words")
    for name in ("LicenseUrl", "ReadmeUrl"):
        if not (papers.root / about[name]).is_file():
            papers.say("template.yaml", f"{name}: there is no file {about[name]}")


def limits(papers):
    """A limit that is set in the code is named as `NAME` in [file](../file); the name is in the file."""
    page = papers.root / "docs" / "limits.md"
    named = re.findall(r"`([A-Za-z_]+)` in \[[^\]]+\]\(\.\./([^)]+)\)", page.read_text(encoding="utf-8"))
    if not named:
        papers.say(page, "no limit says where it is set")
    for name, path in named:
        source = papers.root / path
        if source.is_file() and not re.search(rf"\b{name}\b", source.read_text(encoding="utf-8")):
            papers.say(page, f"there is no {name} in {path}")


def pictures(papers):
    """Each picture is shown somewhere, with words for who does not see it, and shows what the script runs that draws it."""
    shown = {}
    for page in papers.pages:
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
            shown[(page.parent / target).resolve()] = words
            if not words:
                papers.say(page, f"{target} is shown without words for who does not see it")
    script = papers.read("tools/screenshots/take.py")
    for picture in sorted((papers.root / "docs" / "images").iterdir()):
        if picture.resolve() not in shown:
            papers.say(picture, "no paper shows it")
        text = html.unescape(picture.read_text(encoding="utf-8")).replace("\xa0", " ")
        commands = re.findall(r">\$ relayctl ([^<]+?) *<", text)
        if not commands:
            papers.say(picture, "it shows no command")
        for command in commands:
            if f'.run("{command}"' not in script:
                papers.say(picture, f"take.py does not run `relayctl {command}`: `make screenshots` draws it anew")


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    papers = Papers(root)
    for look in (links, merges, links_to_the_runbook, lines_of_doctor, targets, workflow, versions, application, limits, pictures):
        look(papers)
    for words in papers.wrong:
        print(words, file=sys.stderr)
    sys.exit(1 if papers.wrong else 0)


if __name__ == "__main__":
    main()
