"""Prints the names of the alarms that ring, one a line, as CloudWatch would find them from the logs.

usage: alarms.py < INPUT

INPUT is a JSON document: `alarms` and `metric_filters`, as provision_stack.py describes them, `lines` of the functions' log, and
`gateway_lines` of the gateway's. All lines count as if they came within one period. An alarm on a metric of AWS has no data here,
and does not ring.
"""

import json
import re
import sys

OPERATORS = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
}
STATISTICS = {"Sum": sum, "Maximum": max}


def values_of(metric, lines):
    """Returns what the lines report of a metric, in the embedded metric format."""
    dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])}
    return [
        line[metric["MetricName"]]
        for line in lines
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", [])
        if directive["Namespace"] == metric["Namespace"]
        and any(defined["Name"] == metric["MetricName"] for defined in directive["Metrics"])
        and any({name: line[name] for name in names} == dimensions for names in directive["Dimensions"])
    ]


def selects(pattern, line):
    """Returns whether a metric filter selects a line.

    >>> pattern = '{ $.status = "429" && $.functionLatencyMs = "-" }'
    >>> selects(pattern, {"status": "429", "functionLatencyMs": "-"}), selects(pattern, {"status": "429", "functionLatencyMs": "7"})
    (True, False)
    >>> [selects('{ $.status = "5*" || $.status = "429" }', {"status": status}) for status in ("503", "429", "405")]
    [True, True, False]
    """
    any_of = pattern.strip("{} ").split("||")
    all_of = any_of.pop().split("&&") if len(any_of) == 1 else []
    holds = lambda term: is_equal(*re.fullmatch(r'\$\.(\w+) = "([^"]*)"', term.strip()).groups(), line)  # noqa: E731
    return any(map(holds, any_of)) if any_of else all(map(holds, all_of))


def is_equal(name, expected, line):
    """Returns whether a field has a value, in which * stands for any text."""
    return re.fullmatch(re.escape(expected).replace(r"\*", ".*"), line.get(name, "")) is not None


def line_of_filter(metric_filter):
    """Returns what a metric filter makes of a line that it selects, in the embedded metric format."""
    made = metric_filter["MetricTransformations"][0]
    directive = {"Namespace": made["MetricNamespace"], "Dimensions": [[]], "Metrics": [{"Name": made["MetricName"]}]}
    return {made["MetricName"]: int(made["MetricValue"]), "_aws": {"CloudWatchMetrics": [directive]}}


def calculate(expression, known):
    """Returns the value of a metric math expression, or None where what it needs has no data.

    >>> calculate("SUM(METRICS())", {"a": 2, "b": None}), calculate("SUM(METRICS())", {"a": None})
    (2, None)
    >>> calculate("IF(a > 20 OR FILL(b, 0) < 1, a, 0)", {"a": 3, "b": None}), calculate("IF(a > 20 OR FILL(b, 0) < 1, a, 0)", {"a": 3, "b": 1})
    (3, 0)
    >>> print(calculate("IF(a > 0, b / 1000, 0)", {"a": None, "b": 5}))
    None
    """
    present = {name: value for name, value in known.items() if value is not None}
    filled = re.sub(r"FILL\((\w+), (\w+)\)", lambda match: str(present.get(match[1], match[2])), expression)
    if not present or any(name not in present for name in re.findall(r"\b[a-z]\w*", filled)):
        return None
    functions = {"IF": lambda condition, yes, no: yes if condition else no, "SUM": sum, "METRICS": lambda: list(present.values())}
    return eval(filled.replace(" OR ", " or "), {"__builtins__": {}}, {**functions, **present})


def rings(alarm, lines):
    if alarm.get("Metrics"):
        stats = {each["Id"]: each["MetricStat"] for each in alarm["Metrics"] if "MetricStat" in each}
        values = {name: values_of(each["Metric"], lines) for name, each in stats.items()}
        known = {name: STATISTICS[stats[name]["Stat"]](found) if found else None for name, found in values.items()}
        (expression,) = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
        value = calculate(expression, known)
    else:
        found = values_of(alarm, lines)
        value = STATISTICS[alarm["Statistic"]](found) if found else None
    if value is None:
        return alarm["TreatMissingData"] == "breaching"
    return OPERATORS[alarm["ComparisonOperator"]](value, alarm["Threshold"])


def main():
    document = json.load(sys.stdin)
    filters, gateway_lines = document["metric_filters"].values(), document["gateway_lines"]
    made = [line_of_filter(each) for each in filters for line in gateway_lines if selects(each["FilterPattern"], line)]
    for alarm in document["alarms"].values():
        if rings(alarm, document["lines"] + made):
            print(alarm["AlarmName"])


if __name__ == "__main__":
    main()
