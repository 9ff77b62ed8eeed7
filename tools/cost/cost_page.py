"""Writes docs/cost.md from measurements, prices and the template.

usage: cost_page.py [--check]

The sources are docs/cost-measured.json (written by `make cost-measure`), docs/prices.json, docs/bench-functions.json (written by
`make bench-functions`), and template.yaml. With --check nothing is written; the exit code is 1 if the page is out of date.
"""

import json
import logging
import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "aws-emulator"))

import resolve_template  # noqa: E402
import template_refs  # noqa: E402

PAGE = ROOT / "docs" / "cost.md"
HOURS_OF_A_MONTH = 730
MILLION = 1_000_000

# Example values of the variables in the gateway's access log.
CONTEXT = {
    "requestId": "AbCdEfGhIjKlMnOp",
    "requestTime": "31/Jan/2026:08:58:38 +0000",
    "identity.sourceIp": "203.0.113.123",
    "routeKey": "PUT /api/v1/contacts/update",
    "status": "200",
    "responseLength": "123",
    "responseLatency": "123",
    "integrationLatency": "123",
    "error.message": "-",
    "integrationErrorMessage": "-",
}

KINDS = {
    "webhook": "a webhook that becomes a row in Clay",
    "webhook_ignored": "a webhook that is not selected",
    "webhook_forged": "a forged webhook",
    "contact": "a contact, sent while Clay waits",
    "contact_queued": "a contact, stored first",
    "event": "an event, sent while Clay waits",
    "event_queued": "an event, stored first",
    "event_repeated": "an event that was sent before",
    "row_refused": "a row that is refused",
}
WORKERS = {"clay-delivery", "loops-delivery"}
# The functions that wait for a destination, by kind of request.
CALLS_DESTINATION = {
    "webhook": {"clay-delivery"},
    "contact": {"clay-to-loops-contact"},
    "contact_queued": {"loops-delivery"},
    "event": {"clay-to-loops-event"},
    "event_queued": {"loops-delivery"},
}


class Facts:
    """The contents of the four sources."""

    def __init__(self):
        prices = json.loads((ROOT / "docs" / "prices.json").read_text())
        self.prices, self.assumed, self.price_list = prices["prices"], prices["assumed"], prices
        self.measured = json.loads((ROOT / "docs" / "cost-measured.json").read_text())
        self.stack = stack_with({})
        self.rate = int(self.stack.parameters["ClayRatePerSecond"])
        self.cpu_ms = cpu_of_a_later_event(json.loads((ROOT / "docs" / "bench-functions.json").read_text()))

    def of_type(self, kind):
        return [each["Properties"] for each in self.stack.of_type(kind).values()]

    def price(self, name, amount):
        price = self.prices[name]
        return amount * price["amount"] / price["units"]


def stack_with(parameters):
    """Returns the template with these parameters, and the defaults of the others."""
    return template_refs.Template(resolve_template.translate(str(ROOT / "template.yaml"), parameters), "relay", "us-east-1", "1")


def watched_metrics(stack):
    """Returns the number of metrics that the alarms of a stack look at."""
    alarms = [alarm["Properties"] for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()]
    return sum(sum("MetricStat" in each for each in alarm.get("Metrics", [])) or 1 for alarm in alarms)


def cpu_of_a_later_event(report):
    """Returns the milliseconds of each function."""
    functions = report["functions"].items()
    return {name: each["cpu_micros"]["later_event"]["median"] / 1000 for name, each in functions}


def access_log_bytes(facts):
    """Returns the length of a line in the gateway's log."""
    (stage,) = facts.of_type("AWS::ApiGatewayV2::Stage")
    line = stage["AccessLogSettings"]["Format"]
    names = sorted(set(re.findall(r"\$context\.([A-Za-z.]+[A-Za-z])", line)), key=len, reverse=True)
    for name in names:
        line = line.replace(f"$context.{name}", CONTEXT[name])
    return len(line.encode())


def use_of(facts, kind, busy):
    """Returns the usage of one million requests of this kind, by price."""
    measured, requests, assumed = facts.measured["batches" if busy else "kinds"][kind], facts.measured["requests"], facts.assumed
    each = lambda number: number / requests  # noqa: E731
    use = dict.fromkeys(
        ["http_api_request", "lambda_request", "lambda_gb_second", "sqs_request", "dynamodb_write", "dynamodb_read", "log_gb",
         "data_out_gb", "dynamodb_gb_month"], 0.0)
    use["http_api_request"] = 1
    log_bytes = each(measured["log_bytes"]) + each(measured["log_lines"]) * assumed["log_event_overhead_bytes"]
    log_bytes += access_log_bytes(facts) + assumed["log_event_overhead_bytes"]
    for function, events in measured["events"].items():
        events = each(events)
        use["lambda_request"] += events
        use["lambda_gb_second"] += milliseconds_of(facts, kind, function, busy) / 1000 * assumed["memory_mb"] / 1024
        if function in WORKERS:
            # Lambda receives a batch and deletes it.
            use["sqs_request"] += 2 * events
    for call in measured["calls"]:
        units = each(call["half_units"]) / 2
        service, action = call["action"].split(":")
        if service == "sqs":
            use["sqs_request"] += units
        elif action in ("GetItem", "Query"):
            use["dynamodb_read"] += units
        else:
            use["dynamodb_write"] += units
    use["log_gb"] = log_bytes / 1e9
    # The ledger stores an item for 30 days.
    use["dynamodb_gb_month"] = each(measured["stored_bytes"]) / 1e9
    use["data_out_gb"] = each(measured["response_bytes"] + measured["sent_bytes"]) / 1e9
    return {name: amount * MILLION for name, amount in use.items()}


def milliseconds_of(facts, kind, function, busy):
    """Returns the billed milliseconds of a function for one delivery."""
    assumed = facts.assumed
    if busy and function in WORKERS:
        # Two workers share the rate; their other work is done while they wait for permits.
        return 1000 / (facts.rate / 2)
    share = assumed["memory_mb"] / assumed["memory_mb_of_one_processor"]
    calls = {"sqs": 0.0, "dynamodb": 0.0}
    for call in facts.measured["kinds"][kind]["calls"]:
        if call["function"] == function:
            calls[call["action"].split(":")[0]] += call["calls"] / facts.measured["requests"]
    waits = calls["sqs"] * assumed["sqs_call_ms"] + calls["dynamodb"] * assumed["dynamodb_call_ms"]
    if function in CALLS_DESTINATION.get(kind, ()):
        waits += assumed["destination_ms"]
    return math.ceil(facts.cpu_ms[function] / share + waits)


def dollars(amount):
    return "–" if amount == 0 else f"{amount:.2f}" if amount >= 0.005 else "< 0.01"


def table(header, rows):
    lines = [header, ["---"] + ["--:"] * (len(header) - 1)] + rows
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


COLUMNS = {
    "gateway": ["http_api_request"], "function calls": ["lambda_request"], "function time": ["lambda_gb_second"],
    "queue": ["sqs_request"], "table": ["dynamodb_write", "dynamodb_read", "dynamodb_gb_month"], "logs": ["log_gb"], "data out": ["data_out_gb"],
}


def total_of(facts, kind, busy):
    return sum(facts.price(name, amount) for name, amount in use_of(facts, kind, busy).items())


def per_million(facts, busy):
    rows = []
    for kind, description in KINDS.items():
        if busy and kind not in facts.measured["batches"]:
            continue
        use = use_of(facts, kind, busy)
        cells = [sum(facts.price(name, use[name]) for name in names) for names in COLUMNS.values()]
        rows.append([description, *map(dollars, cells), f"**{sum(cells):.2f}**"])
    return table(["a million times", *COLUMNS, "all, $"], rows)


def calls_of(facts, group):
    rows = []
    for kind, description in KINDS.items():
        if kind not in facts.measured[group]:
            continue
        measured, requests = facts.measured[group][kind], facts.measured["requests"]
        count = lambda action: sum(c["calls"] for c in measured["calls"] if re.fullmatch(action, c["action"])) / requests  # noqa: E731
        number = lambda value: f"{value:.2f}".rstrip("0").rstrip(".") or "0"  # noqa: E731
        lines = measured["log_lines"] / requests
        rows.append([
            description, number(sum(measured["events"].values()) / requests), number(count("sqs:SendMessage")),
            number(count("dynamodb:(Update|Delete)Item")), number(count("dynamodb:(GetItem|Query)")), number(lines),
            str(round(measured["log_bytes"] / requests)),
            str(round((measured["response_bytes"] + measured["sent_bytes"]) / requests)),
            str(round(measured["stored_bytes"] / requests)),
        ])
    header = ["one time", "events of functions", "messages", "writes", "reads", "lines of log", "their bytes", "bytes out", "bytes kept"]
    return table(header, rows)


def idle(facts):
    """Returns the items of an idle month: description, list price, price after the monthly free tier."""
    alarms = facts.of_type("AWS::CloudWatch::Alarm")
    watched = watched_metrics(facts.stack)
    secrets = len(facts.of_type("AWS::SecretsManager::Secret"))
    dashboards = len(facts.of_type("AWS::CloudWatch::Dashboard"))
    sources = len(facts.of_type("AWS::Lambda::EventSourceMapping"))
    polls = sources * facts.assumed["idle_pollers_of_a_queue"] * HOURS_OF_A_MONTH * 3600 / facts.assumed["poll_seconds"]
    # DynamoDB uses the table's key at most once in five minutes.
    key_uses = HOURS_OF_A_MONTH * 12
    items = [
        (f"{secrets} secrets", "secret_month", secrets, 0),
        (f"{watched} metrics of {len(alarms)} alarms", "alarm_month", watched, 10),
        (f"{sources} event sources that poll empty queues: {polls:,.0f} requests", "sqs_request", polls, MILLION),
        (f"the table's key: at most {key_uses:,} uses", "kms_request", key_uses, 20_000),
    ]
    if dashboards:
        items.append((f"{dashboards} dashboard", "dashboard_month", dashboards, 3))
    return [(text, facts.price(name, many), facts.price(name, max(0, many - free))) for text, name, many, free in items]


def idle_table(facts):
    items = idle(facts)
    rows = [[text, dollars(full), dollars(rest)] for text, full, rest in items]
    sums = [sum(item[column] for item in items) for column in (1, 2)]
    rows.append(["**all**", *(f"**{amount:.2f}**" for amount in sums)])
    return table(["each month", "list price, $", "after the monthly free tier, $"], rows)


MONTHS = (
    ("a small list", {"webhook": 5_000, "contact": 20_000, "event": 5_000}),
    ("a large one", {"webhook": 200_000, "contact": 800_000, "contact_queued": 200_000, "event": 200_000}),
)


def months(facts):
    rows = []
    base = sum(full for _, full, _ in idle(facts))
    for description, counts in MONTHS:
        flowing = sum(total_of(facts, kind, busy=False) * count / MILLION for kind, count in counts.items())
        what = ", ".join(f"{count:,} × {KINDS[kind]}" for kind, count in counts.items())
        rows.append([f"{description}: {what}", f"{flowing:.2f}", f"**{flowing + base:.2f}**"])
    return table(["a month with", "requests, $", "with the idle month, $"], rows)


# The metrics in crates/relay/src/telemetry/metric.rs with every value of their dimension, for one Clay webhook, and those of the
# gateway's log.
METRICS = 30


def sizes(facts):
    kinds = [*facts.measured["kinds"].values(), *facts.measured["batches"].values()]
    calls = [call for kind in kinds for call in kind["calls"]]
    if all(call["half_units"] <= 2 * call["calls"] for call in calls):
        return "None was larger than one such unit."
    larger = sorted({f"{call['function']}, {call['action']}" for call in calls if call["half_units"] > 2 * call["calls"]})
    return f"Larger than one such unit were: {'; '.join(larger)}."


def price_table(facts):
    rows = []
    for price in facts.prices.values():
        amount = f"{price['amount']:.10f}".rstrip("0")
        amount = amount + "0" * max(0, 2 - len(amount.split(".")[1]))
        seen = f"[seen]({price['seen']})" if price["seen"] else "not verified"
        rows.append([price["per"], amount, price["free"], f"[AWS]({price['page']}), {seen}"])
    return table(["for", "$", "free", "where"], rows)


def page(facts):
    assumed = facts.assumed
    totals = {kind: total_of(facts, kind, busy=False) for kind in KINDS}
    low, high = (f(totals[kind] for kind in ("webhook", "contact", "event")) for f in (min, max))
    stored_first = max(totals[kind] for kind in ("contact_queued", "event_queued"))
    full = sum(item[1] for item in idle(facts))
    durations = {
        function: milliseconds_of(facts, kind, function, busy=False)
        for kind, function in (("webhook", "loops-to-clay"), ("webhook", "clay-delivery"), ("contact", "clay-to-loops-contact"),
                               ("event", "clay-to-loops-event"), ("contact_queued", "loops-delivery"))
    }
    share = assumed["memory_mb"] / assumed["memory_mb_of_one_processor"]
    times = table(["function", "CPU measured, ms", f"the same with {assumed['memory_mb']} MB, ms", "billed, ms"],
                  [[f"`{name}`", f"{facts.cpu_ms[name]:.2f}", f"{facts.cpu_ms[name] / share:.0f}", str(billed)]
                   for name, billed in durations.items()])
    all_alarms = stack_with({"Alarms": "all"})
    reads = facts.price("secret_read", assumed["warm_sandbox_reads_a_month"])
    return f"""# What it costs on AWS

<!-- Made by `make cost-measure` and `tools/cost/cost_page.py` from cost-measured.json, prices.json, bench-functions.json and template.yaml. -->

A million webhooks or rows cost **${low:.2f} to ${high:.2f}**, rows that are stored first up to **${stored_first:.2f}**, and
an idle month **${full:.2f}**, at list prices in {facts.price_list["region"]}, as of {facts.price_list["as_of"]}, without free tiers.
Calls, bytes of log, outgoing bytes and processor time are measured. Waiting times are assumed, and prices are taken from the pages
in the last section.

## A million of each

Requests that arrive one after another, so that each message is a batch of its own: the most expensive case.

{per_million(facts, busy=False)}

With a backlog, a batch has ten messages. That saves events of the worker, requests to the queue and writes, but a worker is
billed while it waits for the rate limiter: {1000 / (facts.rate / 2):.0f} ms for a row, at {facts.rate} rows a second and two workers.

{per_million(facts, busy=True)}

- A flood of forged webhooks costs ${totals["webhook_forged"]:.2f} a million. `RequestsPerSecond` limits it: 200 a second for an hour are
  720,000.
- A retry costs the function's time, the writes and the read of its attempt, and three requests to the queue each
  time. A held delivery is tried about a hundred times a day.
- An e-mail is handled as an event is, and a contact that is created or deleted as one that is updated. A call that is
  passed on is one function call with one write, for its place in the rate, and the question what became of a row one
  with one read; neither is measured.
- Each sandbox that is always in use reads its secret {assumed["warm_sandbox_reads_a_month"]:,} times a month: ${reads:.2f}.

## An idle month

{idle_table(facts)}

- `Alarms=all` adds {len(all_alarms.of_type("AWS::CloudWatch::Alarm")) - len(facts.of_type("AWS::CloudWatch::Alarm"))} alarms: ${facts.price("alarm_month", watched_metrics(all_alarms) - watched_metrics(facts.stack)):.2f}.
- `CloudWatchDashboard=on` adds the dashboard: ${facts.prices["dashboard_month"]["amount"]:.2f}, beyond the first three of an account.

Custom metrics, {METRICS} at most with one Clay webhook, cost {facts.prices["metric_month"]["amount"]:.2f} each in a month with data in every hour; ten are free.

## Two months

{months(facts)}

## What was measured

The functions ran against emulated services, {facts.measured["requests"]} requests of each kind, with warm sandboxes and the examples of the folder `events`. Every call was counted as it is billed: messages in pieces of 64 KB, writes in KB of the item, reads in
4 KB. {sizes(facts)} The last column is stored in the ledger for 30 days.

One after another:

{calls_of(facts, "kinds")}

In batches of ten:

{calls_of(facts, "batches")}

Added is a line of the gateway's log ({access_log_bytes(facts)} bytes) for each request. Lambda's own records of an event that succeeds are not logged
(`SystemLogLevel`). Bytes out are those of responses and of requests to Clay and Loops, without TLS and TCP.

## Billed time

{times}

- Measured is the processor time of a later event (`make bench-functions`, x86_64, services that respond at once). With {assumed["memory_mb"]} MB a
  function has {share:.1%} of a processor: AWS gives a whole one at {assumed["memory_mb_of_one_processor"]:,} MB. The same time is assumed for arm64.
- A call to SQS takes {assumed["sqs_call_ms"]} ms and one to DynamoDB {assumed["dynamodb_call_ms"]} ms, one after another; Loops and Clay respond within {assumed["destination_ms"]} ms.
  All three are assumed. Each 100 ms more add ${facts.price("lambda_gb_second", 0.1 * assumed["memory_mb"] / 1024 * MILLION):.2f} to a million.
- Cold starts are left out. If one event in a hundred started a sandbox, reading the secret would add
  ${facts.price("secret_read", MILLION / 100):.2f} to a million, and the time of the start less than a cent.
- Lambda polls an empty queue with {assumed["idle_pollers_of_a_queue"]} concurrent requests of {assumed["poll_seconds"]} seconds. That is assumed, too.

## The prices

{price_table(facts)}

`make cost-measure` measures anew. After a change of a price in `docs/prices.json`, of the alarms in `template.yaml` or of
`docs/bench-functions.json`, `make cost-render` writes this page; `make test` fails if it is out of date.
"""


def missing_in_readme(facts):
    """Returns the statements on cost that README.md lacks."""
    totals = [total_of(facts, kind, busy=False) for kind in ("webhook", "contact", "event")]
    requests = f"${min(totals):.0f} to ${max(totals):.0f} for a million rows or webhooks"
    queued = f"up to ${max(total_of(facts, kind, busy=False) for kind in ('contact_queued', 'event_queued')):.0f} for rows that are queued first"
    month = f"${sum(item[1] for item in idle(facts)):.2f} a month"
    readme = (ROOT / "README.md").read_text()
    return [each for each in (requests, queued, month) if each not in " ".join(readme.split())]


def main():
    # The translator warns about its own metrics.
    logging.disable(logging.CRITICAL)
    facts = Facts()
    text = page(facts)
    if "--check" in sys.argv[1:] and (missing := missing_in_readme(facts)):
        sys.exit(f"README.md should say: {'; '.join(missing)}")
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit("docs/cost.md is out of date: run `make cost-render`")


if __name__ == "__main__":
    main()
