"""Judges what `make deploy` is about to deploy, before anything is built, and writes the stack's parameters for `sam deploy`.

usage: deploy_parameters.py CONFIG ARCHITECTURE OUTPUT

CONFIG is the configuration file of SAM, and OUTPUT the file that `sam deploy --parameter-overrides file://OUTPUT` reads. The
variable DEPLOY_PARAMETERS has what was given as PARAMETERS=…. For SAM, parameters of the command line replace all those of the
configuration file, and `make deploy` must pass the architecture, because the functions are built for it. So it passes all of them.
"""

import os
import pathlib
import re
import sys

import tomlkit
from click import BadParameter
from samcli.cli.types import CfnParameterOverridesType
from samcli.lib.config.exceptions import SamConfigFileReadException, SamConfigVersionException
from samcli.lib.config.samconfig import SamConfig
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = pathlib.Path(__file__).resolve().parents[2] / "template.yaml"
# The maximum lengths of names (Lambda, SQS and DynamoDB, "Quotas"), by the property that sets the name.
MAX_NAME_LENGTHS = {"FunctionName": 64, "QueueName": 80, "TableName": 255}


class Refused(Exception):
    """What cannot be deployed, in a sentence."""


def parse(source, given):
    r"""Returns the parameters as SAM itself would read them, or refuses what SAM would leave out in silence.

    >>> parse("it", 'RelayedEvents="contact.created,email.*" LoopsRatePerSecond=4')
    {'RelayedEvents': 'contact.created,email.*', 'LoopsRatePerSecond': '4'}
    >>> parse("it", r'''ContactSource="Clay import" LogLevel='debug' AlarmEmail="" LoopsApiUrl=https://a/?b=it's''')
    {'ContactSource': 'Clay import', 'LogLevel': 'debug', 'AlarmEmail': '', 'LoopsApiUrl': "https://a/?b=it's"}
    >>> parse("it", r'ContactSource="a \"b\""'), parse("it", ["ContactSource=Clay\\ import"]), parse("it", {"MemorySize": 256})
    ({'ContactSource': 'a "b"'}, {'ContactSource': 'Clay import'}, {'MemorySize': '256'})
    >>> parse("it", "ContactSource=Clay import")
    Traceback (most recent call last):
    deploy_parameters.Refused: it: `import` is in no parameter: put a value with spaces in double quotes, as in ContactSource="Clay import", and write an empty one as ""
    >>> parse("it", 'ContactSource="a "b""')
    Traceback (most recent call last):
    deploy_parameters.Refused: it: `b""` is in no parameter: put a value with spaces in double quotes, as in ContactSource="Clay import", and write an empty one as ""
    """
    if isinstance(given, (list, tuple)):
        return {key: value for each in given for key, value in parse(source, each).items()}
    if isinstance(given, str) and given.strip() and not given.startswith("file://"):
        padded = " " + given.strip()
        patterns = CfnParameterOverridesType.ordered_pattern_match
        used = next((pattern for pattern in patterns if re.search(pattern, padded)), None)
        rest = re.sub(used, "", padded).strip() if used else given
        if rest:
            raise Refused(
                f'{source}: `{rest}` is in no parameter: put a value with spaces in double quotes, '
                'as in ContactSource="Clay import", and write an empty one as ""'
            )
    try:
        return CfnParameterOverridesType().convert(given, None, None) if given else {}
    except (BadParameter, OSError, ValueError, TypeError, AttributeError) as error:
        raise Refused(f"{source}: the parameters cannot be read ({error}): write them as Name=value") from error


def quote(value):
    """Returns a text that SAM unquotes to the value, whatever is in it."""
    return '"' + re.sub(r"""([ "'])""", r"\\\1", value) + '"'


def write(values, output):
    r"""Writes the file from which SAM reads these values. What comes from a file, SAM unquotes twice.

    >>> import tempfile
    >>> values = ["", " a ", "it's", '"', '""', "'a'", "a\\", '\\"', "\\ '", "a=b c=d", "a,b", "x\ny\tz", "é😀", "$HOME `x` #"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write({f"P{n}": value for n, value in enumerate(values)}, pathlib.Path(folder) / "parameters.toml")
    ...     read = CfnParameterOverridesType().convert((f"file://{folder}/parameters.toml",), None, None)
    >>> [(value, found) for value, found in zip(values, read.values()) if value != found]
    []
    """
    output.parent.mkdir(exist_ok=True)
    output.write_text(tomlkit.dumps({name: quote(quote(value)) for name, value in values.items()}), encoding="utf-8")


def judge(name, value, declared):
    """Refuses a value that CloudFormation would refuse, after the build.

    >>> events = {"Type": "String", "AllowedPattern": "[a-z.]*", "ConstraintDescription": "must be names"}
    >>> judge("Events", "a.b", {"Events": events})
    >>> judge("Events", "A B", {"Events": events})
    Traceback (most recent call last):
    deploy_parameters.Refused: Events is "A B", and must be names
    >>> judge("Level", "loud", {"Level": {"AllowedValues": ["info", "debug"]}})
    Traceback (most recent call last):
    deploy_parameters.Refused: Level is "loud", and must be one of info, debug
    >>> judge("Rate", "0", {"Rate": {"Type": "Number", "MinValue": 1, "MaxValue": 9}})
    Traceback (most recent call last):
    deploy_parameters.Refused: Rate is "0", and must be a number from 1 to 9
    >>> judge("Leve", "info", {"Level": {}})
    Traceback (most recent call last):
    deploy_parameters.Refused: the template has no parameter Leve; it has Level
    """
    if name not in declared:
        raise Refused(f"the template has no parameter {name}; it has {', '.join(declared)}")
    rules = declared[name]
    allowed = [str(each) for each in rules.get("AllowedValues", [])]
    must = None
    if allowed and value not in allowed:
        must = f"one of {', '.join(allowed)}"
    elif not re.fullmatch(rules.get("AllowedPattern", r"[^\x00-\x1f\x7f]*"), value):
        must = rules.get("ConstraintDescription", "a text without line breaks or control characters").removeprefix("must be ")
    elif len(value) > rules.get("MaxLength", len(value)):
        must = f"at most {rules['MaxLength']} characters"
    elif rules.get("Type") == "Number" and "MinValue" in rules:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not rules["MinValue"] <= int(value) <= rules["MaxValue"]:
            must = f"a number from {rules['MinValue']} to {rules['MaxValue']}"
    if must:
        raise Refused(f'{name} is "{value}", and must be {must}')


def longest_stack_name(template):
    """Returns how many characters the stack's name may have, for the names that begin with it.

    >>> longest_stack_name({"Resources": {"F": {"Properties": {"FunctionName": {"Fn::Sub": "${AWS::StackName}-a"}}}}})
    62
    """
    names = [
        (each["Properties"][key]["Fn::Sub"], most)
        for each in template["Resources"].values()
        for key, most in MAX_NAME_LENGTHS.items()
        if key in each.get("Properties", {})
    ]
    return min(most - len(name.replace("${AWS::StackName}", "")) for name, most in names)


def judge_stack_name(name, longest):
    """Refuses a stack's name with which a function could not be named.

    >>> judge_stack_name("relay-2", 7)
    >>> judge_stack_name("relay-20", 7)
    Traceback (most recent call last):
    deploy_parameters.Refused: the stack's name "relay-20" has 8 characters, and may have 7: it is part of every function's name
    >>> judge_stack_name("my_relay", 40)
    Traceback (most recent call last):
    deploy_parameters.Refused: the stack's name "my_relay" must begin with a letter, and have only letters, digits and hyphens
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise Refused(f'the stack\'s name "{name}" must begin with a letter, and have only letters, digits and hyphens')
    if len(name) > longest:
        raise Refused(f'the stack\'s name "{name}" has {len(name)} characters, and may have {longest}: it is part of every function\'s name')


def read_config(path):
    try:
        config = SamConfig(str(path.parent), path.name)
        return dict(config.get_all(["deploy"], "parameters", "default")) if config.exists() else {}
    except KeyError:
        return {}
    except (SamConfigFileReadException, SamConfigVersionException, ValueError, TypeError, AttributeError) as error:
        raise Refused(f"{path.name} cannot be read: {str(error.__cause__ or error).strip()}") from error


def parameters(config_path, architecture, given):
    """Returns the parameters to deploy with, each with its last value."""
    template = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
    config = read_config(config_path)
    judge_stack_name(str(config.get("stack_name", "loops-clay-relay")), longest_stack_name(template))
    saved = parse(config_path.name, config.get("parameter_overrides"))
    asked = parse("PARAMETERS", given)
    if asked.get("Architecture", architecture) != architecture:
        raise Refused(f"the functions are built for ARCH={architecture}: say ARCH={asked['Architecture']} instead of Architecture")
    merged = {**saved, **asked, "Architecture": architecture}
    for name, value in merged.items():
        judge(name, value, template["Parameters"])
    return merged


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    config, architecture, output = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], pathlib.Path(sys.argv[3])
    try:
        values = parameters(config, architecture, os.environ.get("DEPLOY_PARAMETERS", ""))
    except Refused as error:
        sys.exit(f"nothing was built or deployed: {error}")
    write(values, output)


if __name__ == "__main__":
    main()
