"""Resolves the references of a template, for a stack of this name, in this region and account."""

import re
import sys

NOTHING = object()


class Template:
    """A template. A subclass defines `make`, which returns a resource's Ref and attributes."""

    def __init__(self, template, name, region, account):
        self.template = template
        self.resources = template["Resources"]
        self.name = name
        self.region = region
        self.account = account
        self.parameters = {}
        for parameter, declared in template.get("Parameters", {}).items():
            if "Default" not in declared:
                sys.exit(f"the parameter {parameter} has no default: give it to resolve_template.py")
            self.parameters[parameter] = str(declared["Default"])
        self.pseudo = {
            "AWS::StackName": name,
            "AWS::Region": region,
            "AWS::AccountId": account,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NoValue": NOTHING,
        }

    def make(self, name):
        """Returns a resource's Ref and attributes."""
        raise NotImplementedError(name)

    def resolve(self, value):
        """Returns the value with every reference in it resolved."""
        if isinstance(value, list):
            items = [self.resolve(item) for item in value]
            return [item for item in items if item is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), *_ = value.items()
            if function == "Ref":
                return self.ref(argument)
            if function == "Fn::GetAtt":
                return self.get_att(*(argument.split(".", 1) if isinstance(argument, str) else argument))
            if function == "Fn::Sub":
                return self.sub(argument)
            if function == "Fn::If":
                condition, yes, no = argument
                return self.resolve(yes if self.holds(condition) else no)
            if function == "Fn::Join":
                separator, parts = argument
                return separator.join(self.resolve(parts))
            if function == "Fn::Select":
                index, parts = argument
                return self.resolve(parts)[int(self.resolve(index))]
            if function == "Fn::Split":
                separator, text = argument
                return self.resolve(text).split(separator)
            if function.startswith("Fn::"):
                sys.exit(f"{function} is not known here")
        items = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not NOTHING}

    def ref(self, name):
        if name in self.parameters:
            return self.parameters[name]
        if name in self.pseudo:
            return self.pseudo[name]
        return self.make(name)["Ref"]

    def get_att(self, name, attribute):
        made = self.make(name)
        if attribute not in made:
            sys.exit(f"{name}.{attribute} is not known here")
        return made[attribute]

    def sub(self, argument):
        text, own = (argument, {}) if isinstance(argument, str) else argument

        def replace(match):
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in own:
                return str(self.resolve(own[name]))
            return str(self.get_att(*name.split(".", 1)) if "." in name else self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", replace, text)

    def holds(self, condition):
        """Returns whether a condition, by name or inline, holds."""
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        (function, argument), *_ = condition.items()
        if function == "Condition":
            return self.holds(argument)
        if function == "Fn::Equals":
            left, right = self.resolve(argument)
            return str(left) == str(right)
        if function == "Fn::Not":
            return not self.holds(argument[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)(self.holds(each) for each in argument)
        return sys.exit(f"the condition {function} is not known here")

    # Resources.

    def exists(self, name):
        return self.is_made(self.resources[name])

    def is_made(self, declared):
        """Returns whether the condition of a resource or an output holds, if it has one."""
        return "Condition" not in declared or self.holds(declared["Condition"])

    def of_type(self, kind):
        """Returns the stack's resources of a type, by their logical ids."""
        return {name: each for name, each in self.resources.items() if each["Type"] == kind and self.exists(name)}

    def properties(self, name):
        return self.resolve(self.resources[name].get("Properties", {}))
