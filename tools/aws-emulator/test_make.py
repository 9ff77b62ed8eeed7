"""What `make` does before it builds or deploys anything. Nothing is built: `make -n` prints the commands."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import deploy_parameters

ROOT = pathlib.Path(__file__).resolve().parents[2]


def make(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    return subprocess.run(["make", *arguments], cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True)


class Make(unittest.TestCase):
    def test_make_3_81_gets_one_sentence(self):
        # The features of that version (its NEWS): there is no oneshell.
        features = ".FEATURES=target-specific order-only second-expansion else-if archives jobserver check-symlink"
        refused = make(features, "deploy")
        self.assertEqual((refused.returncode, refused.stdout, refused.stderr.count("\n")), (2, "", 1))
        self.assertIn("brew install make", refused.stderr)

    def test_parameters_are_judged_before_the_build(self):
        commands = make("-n", "deploy", "PARAMETERS=LogLevel=debug").stdout
        self.assertLess(commands.index("deploy_parameters.py"), commands.index("sam build"))
        self.assertLess(commands.index("sam build"), commands.index("sam deploy"))

    def test_elsewhere_than_on_linux_what_needs_it_is_skipped(self):
        with tempfile.TemporaryDirectory() as folder:
            uname = pathlib.Path(folder) / "uname"
            uname.write_text("#!/bin/sh\necho Darwin\n")
            uname.chmod(0o755)
            done = make("test-lambda", "bench-check", "test-console", PATH=f"{folder}:{os.environ['PATH']}")
        expected = "test-lambda: skipped: needs Linux\nbench-check: skipped: needs Linux\ntest-console: skipped: needs Linux\n"
        self.assertEqual((done.returncode, done.stdout), (0, expected))

    def test_what_is_missing_is_named_all_at_once(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("bash", "uname"):
                (pathlib.Path(folder) / name).symlink_to(f"/bin/{name}")
            refused = subprocess.run(["/bin/bash", "tools/prerequisites"], cwd=ROOT, env={"PATH": folder}, capture_output=True, text=True)
        self.assertEqual(refused.returncode, 1)
        for needed in ("a C compiler", "GNU make", "Python 3.10", "Node 18", "npm", "Rust", "rustfmt", "clippy"):
            self.assertIn(f"- {needed}", refused.stderr)

    def test_what_guided_saves_is_not_committed(self):
        self.assertIn("/samconfig.local.toml", (ROOT / ".gitignore").read_text().splitlines())


# Answers as cargo does where SAM asks it, and leaves a file where cargo-lambda would leave a function.
CARGO = """#!/bin/sh
if [ "$1" = metadata ]; then echo "{\\"target_directory\\": \\"$PWD/target\\"}"; exit; fi
echo "$*" >>calls
while [ "$1" != --bin ]; do shift; done
mkdir -p "target/lambda/$2" && echo "$2" >"target/lambda/$2/bootstrap"
"""


class PlainSam(unittest.TestCase):
    def test_sam_build_as_the_readme_says_builds_each_function(self):
        block = next(block for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "sam build" in block)
        build, deploy = [line.partition("#")[0].split() for line in block.splitlines()]
        self.assertEqual(deploy, ["sam", "deploy", "--guided"])
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for file in ("template.yaml", "samconfig.toml", "Cargo.toml"):
                shutil.copy(ROOT / file, folder)
            (folder / "bin").mkdir()
            (folder / "bin" / "cargo").write_text(CARGO)
            (folder / "bin" / "cargo").chmod(0o755)
            environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
            environment["PATH"] = f"{folder / 'bin'}:{pathlib.Path(sys.executable).parent}:{environment['PATH']}"
            done = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            calls = (folder / "calls").read_text().splitlines()
            built = {path.read_text().strip() for path in folder.glob(".aws-sam/build/*/bootstrap")}
        functions = re.findall(r"BuildProperties: \{Binary: ([a-z-]+)\}", (ROOT / "template.yaml").read_text())
        self.assertEqual(sorted(calls), sorted(f"lambda build --release --arm64 --bin {function}" for function in functions))
        self.assertEqual(built, set(functions))


class Parameters(unittest.TestCase):
    def deploy(self, given, config="version = 0.1\n"):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "samconfig.local.toml"
            path.write_text(config)
            return deploy_parameters.parameters(path, "arm64", given)

    def refused(self, *arguments):
        with self.assertRaises(deploy_parameters.Refused) as caught:
            self.deploy(*arguments)
        return str(caught.exception)

    def test_command_line_wins_over_saved_answers(self):
        saved = 'version = 0.1\n[default.deploy.parameters]\nparameter_overrides = "LogLevel=\\"warn\\" Architecture=\\"x86_64\\""\n'
        self.assertEqual(self.deploy("", saved), {"LogLevel": "warn", "Architecture": "arm64"})
        self.assertEqual(self.deploy("LogLevel=debug", saved)["LogLevel"], "debug")

    def test_parameter_with_spaces_and_quotes_arrives_through_sam(self):
        given = 'RelayedEvents="contact.created, email.*" ContactSource="it\'s \\"Clay\\" for $5"'
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "parameters.toml"
            deploy_parameters.write(self.deploy(given), path)
            read = deploy_parameters.CfnParameterOverridesType().convert((f"file://{path}",), None, None)
        expected = {"RelayedEvents": "contact.created, email.*", "ContactSource": 'it\'s "Clay" for $5', "Architecture": "arm64"}
        self.assertEqual(read, expected)

    def test_parameter_that_sam_would_cut_off_is_refused(self):
        for given in ("ContactSource=Clay import", "RelayedEvents=contact.created, email.*", "ContactSource=", 'ContactSource="a'):
            self.assertIn("put a value with spaces in double quotes", self.refused(given))

    def test_name_or_value_that_the_template_does_not_take_is_refused(self):
        self.assertIn("the template has no parameter AlarmMail", self.refused("AlarmMail=ops@example.com"))
        self.assertIn("must be one of error, warn", self.refused("LogLevel=loud"))

    def test_unclosed_quote_in_saved_answers_is_refused(self):
        saved = 'version = 0.1\n[default.deploy.parameters]\nparameter_overrides = "ContactSource=\\"a \\"b\\"\\""\n'
        self.assertIn("samconfig.local.toml", self.refused("", saved))

    def test_broken_configuration_is_refused_in_a_sentence(self):
        for config in ("[default", "[default.deploy.parameters]\n"):
            self.assertIn("samconfig.local.toml cannot be read", self.refused("", config))

    def test_stack_name_too_long_for_a_function_is_refused(self):
        saved = 'version = 0.1\n[default.global.parameters]\nstack_name = "{}"\n'
        self.deploy("", saved.format("a" * 42))
        self.assertIn("43 characters, and may have 42", self.refused("", saved.format("a" * 43)))

    def test_architecture_of_another_build_is_refused(self):
        self.assertIn("ARCH=x86_64", self.refused("Architecture=x86_64"))

    def test_events_in_quotes_of_their_own_are_refused(self):
        self.assertIn("without quotes", self.refused("RelayedEvents=\"'contact.created'\""))


if __name__ == "__main__":
    unittest.main()
