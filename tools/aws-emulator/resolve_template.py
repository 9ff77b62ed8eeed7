"""Translates template.yaml into the plain CloudFormation that AWS makes of it, offline.

usage: resolve_template.py TEMPLATE OUTPUT [PARAMETER=VALUE ...]

OUTPUT is a file, or - for standard output. Ref, Fn::GetAtt, Fn::Sub and Fn::If stay as they are. A PARAMETER becomes the default
of that parameter, so that a reader of the output needs nothing else.
"""

import json
import logging
import os
import sys

# The translator asks for a region and would look for one on the network.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# Placeholder for the location that `sam package` would write.
CODE = "s3://not-packaged/code.zip"


class NoManagedPolicies:
    """The translator resolves policies by name; the template names none."""

    def load(self):
        return {}


def translate(path, overrides):
    """Returns the translated template, with the overrides as defaults of its parameters."""
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file)
    parameters = template.get("Parameters", {})
    for name, value in overrides.items():
        if name not in parameters:
            sys.exit(f"the template has no parameter {name}; it has {', '.join(parameters)}")
        parameters[name]["Default"] = value
    template["Globals"]["Function"]["CodeUri"] = CODE
    defaults = {name: parameter["Default"] for name, parameter in parameters.items() if "Default" in parameter}
    try:
        translated = transform(template, defaults, NoManagedPolicies())
    except InvalidDocumentException as error:
        sys.exit("\n".join([error.message, *(cause.message for cause in error.causes)]))
    translated.pop("Transform", None)
    return translated


def main():
    logging.disable(logging.CRITICAL)
    arguments = sys.argv[1:]
    if len(arguments) < 2 or not all("=" in pair for pair in arguments[2:]):
        sys.exit(__doc__)
    source, output, *pairs = arguments
    translated = json.dumps(translate(source, dict(pair.split("=", 1) for pair in pairs)), indent=2)
    if output == "-":
        print(translated)
        return
    with open(output, "w", encoding="utf-8") as file:
        file.write(translated + "\n")


if __name__ == "__main__":
    main()
