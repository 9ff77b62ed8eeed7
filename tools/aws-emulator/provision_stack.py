"""Creates a stack in a running moto server, from the output of resolve_template.py.

usage: provision_stack.py ENDPOINT TEMPLATE [--stack-name NAME | --names-from-input] [--region REGION]

TEMPLATE is a file. With --names-from-input, each line of standard input is the name of a stack to create, and each stack is
one line of output, so that one process serves a whole test run. moto's own CloudFormation silently skips secrets, alarms and
HTTP APIs, so resources.py creates the secrets, queues, the table, log groups, alarms and the dashboard, with exactly the
properties of the template. The rest (routes, event sources, roles) is described, with every reference resolved, in the JSON
document that is printed; a test harness runs the stack from it. CloudFormation has a stack of that name with the outputs.

A resource type or function of the template that this program does not know is an error, so that nothing is skipped here either.
"""

import argparse
import json
import re
import sys

import boto3
from botocore.config import Config
from resources import StackResources


class Account:
    """The emulated services."""

    def __init__(self, endpoint, region):
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)
        options = {"endpoint_url": endpoint, "config": Config(proxies={}, retries={"total_max_attempts": 1})}
        self.sqs = session.client("sqs", **options)
        self.dynamodb = session.client("dynamodb", **options)
        self.secrets_manager = session.client("secretsmanager", **options)
        self.cloudwatch = session.client("cloudwatch", **options)
        self.logs = session.client("logs", **options)
        self.cloudformation = session.client("cloudformation", **options)
        self.lambda_ = session.client("lambda", **options)
        self.iam = session.client("iam", **options)
        self.id = session.client("sts", **options).get_caller_identity()["Account"]
        self.region = region


class Stack(StackResources):
    """A stack and its description."""

    def describe(self):
        """Creates the whole stack and returns its description."""
        for name in self.resources:
            if self.exists(name):
                self.make(name)
        return {
            "stack": self.name,
            "region": self.region,
            "account": self.account,
            "parameters": self.parameters,
            "outputs": self.put_outputs(),
            "secrets": {name: self.describe_secret(name) for name in self.of_type("AWS::SecretsManager::Secret")},
            "queues": {name: self.describe_queue(name) for name in self.of_type("AWS::SQS::Queue")},
            "tables": {name: self.describe_table(name) for name in self.of_type("AWS::DynamoDB::Table")},
            "functions": {self.binary(name): self.describe_function(name) for name in self.of_type("AWS::Lambda::Function")},
            "routes": [route for name in self.of_type("AWS::ApiGatewayV2::Api") for route in self.describe_routes(name)],
            "stages": [self.describe_stage(name) for name in self.of_type("AWS::ApiGatewayV2::Stage")],
            "event_sources": [self.describe_source(name) for name in self.of_type("AWS::Lambda::EventSourceMapping")],
            "alarms": self.describe_alarms(),
            "dashboards": {name: self.describe_dashboard(name) for name in self.of_type("AWS::CloudWatch::Dashboard")},
            "topics": {name: self.properties(name) for name in self.of_type("AWS::SNS::Topic")},
            "metric_filters": {name: self.properties(name) for name in self.of_type("AWS::Logs::MetricFilter")},
            "log_groups": {name: self.describe_log_group(name) for name in self.of_type("AWS::Logs::LogGroup")},
            "roles": {name: self.describe_role(name) for name in self.of_type("AWS::IAM::Role")},
        }

    def describe_secret(self, name):
        made = self.made[name]
        value = self.secrets_manager.get_secret_value(SecretId=made["Ref"])["SecretString"]
        policy = self.secrets_manager.get_resource_policy(SecretId=made["Ref"])["ResourcePolicy"]
        # Two are documents, and one is a key.
        document = json.loads(value) if value.startswith("{") else value
        return {"arn": made["Ref"], "name": made["Name"], "document": document, "policy": json.loads(policy)}

    def describe_queue(self, name):
        made = self.made[name]
        attributes = self.sqs.get_queue_attributes(QueueUrl=made["Ref"], AttributeNames=["All"])["Attributes"]
        policy = json.loads(attributes.pop("Policy", "null"))
        redrive = json.loads(attributes.pop("RedrivePolicy", "null"))
        if redrive:
            redrive = {
                "dead_letters": self.logical_id(redrive["deadLetterTargetArn"]),
                "max_receive_count": int(redrive["maxReceiveCount"]),
            }
        return {
            "url": made["Ref"],
            "arn": made["Arn"],
            "name": made["QueueName"],
            "policy": policy,
            "redrive": redrive,
            "attributes": attributes,
        }

    def describe_table(self, name):
        table = self.made[name]["Ref"]
        made = self.dynamodb.describe_table(TableName=table)["Table"]
        ttl = self.dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        backups = self.dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
        return {
            "name": table,
            "arn": made["TableArn"],
            "key": {each["AttributeName"]: each["KeyType"] for each in made["KeySchema"]},
            "billing": made["BillingModeSummary"]["BillingMode"],
            "ttl": ttl.get("AttributeName"),
            "point_in_time_recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
            "encryption": made.get("SSEDescription", {}).get("Status"),
        }

    def binary(self, name):
        return self.resources[name]["Metadata"]["BuildProperties"]["Binary"]

    def describe_function(self, name):
        properties = self.properties(name)
        return {
            "name": properties["FunctionName"],
            "binary": self.binary(name),
            "handler": properties["Handler"],
            "runtime": properties["Runtime"],
            "architectures": properties["Architectures"],
            "timeout": int(properties["Timeout"]),
            "memory": int(properties["MemorySize"]),
            "environment": self.environment_of(name),
            "role": self.logical_id(properties["Role"]),
            "logging": properties["LoggingConfig"],
        }

    def describe_routes(self, name):
        functions = {self.made[each]["Arn"]: self.binary(each) for each in self.of_type("AWS::Lambda::Function")}
        allowed = {self.resolve(each["Properties"]["SourceArn"]) for each in self.of_type("AWS::Lambda::Permission").values()}
        for path, methods in self.properties(name)["Body"]["paths"].items():
            for method, operation in methods.items():
                integration = operation["x-amazon-apigateway-integration"]
                arn = integration["uri"].split("/functions/")[1].removesuffix("/invocations")
                # A permission has a wildcard where a path has a variable.
                pattern = re.sub(r"\{[^}]+\}", "*", path)
                source = self.arn("execute-api", f"{self.made[name]['Ref']}/*/{method.upper()}{pattern}")
                yield {
                    "method": method.upper(),
                    "path": path,
                    "function": functions[arn],
                    "payload_format": integration["payloadFormatVersion"],
                    "permitted": source in allowed,
                }

    def describe_stage(self, name):
        properties = self.properties(name)
        log = properties["AccessLogSettings"]
        return {
            "name": properties["StageName"],
            "throttling": properties["DefaultRouteSettings"],
            "access_log": {"log_group": self.logical_id(log["DestinationArn"]), "format": log["Format"]},
        }

    def describe_source(self, name):
        properties = self.properties(name)
        queue = self.logical_id(properties["EventSourceArn"])
        functions = {self.made[each]["Ref"]: self.binary(each) for each in self.of_type("AWS::Lambda::Function")}
        return {
            "queue": queue,
            "queue_url": self.made[queue]["Ref"],
            "id": self.made[name]["Ref"],
            "function": functions[properties["FunctionName"]],
            "batch_size": int(properties["BatchSize"]),
            "maximum_concurrency": properties.get("ScalingConfig", {}).get("MaximumConcurrency"),
            "report_batch_item_failures": "ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        }

    def describe_alarms(self):
        """The alarms as the emulator has them."""
        names = {self.made[name]["Ref"]: name for name in self.of_type("AWS::CloudWatch::Alarm")}
        described = self.cloudwatch.describe_alarms(AlarmNames=list(names))["MetricAlarms"]
        alarms = {names[alarm["AlarmName"]]: alarm for alarm in described}
        # Timestamps are no JSON, and no test reads them.
        return {name: {key: item for key, item in alarm.items() if "Timestamp" not in key} for name, alarm in alarms.items()}

    def describe_dashboard(self, name):
        dashboard = self.made[name]["Ref"]
        body = self.cloudwatch.get_dashboard(DashboardName=dashboard)["DashboardBody"]
        return {"name": dashboard, "body": json.loads(body)}

    def describe_log_group(self, name):
        properties = self.properties(name)
        return {"name": properties["LogGroupName"], "retention_days": int(properties["RetentionInDays"])}

    def describe_role(self, name):
        properties = self.properties(name)
        return {
            "assumed_by": [each["Principal"] for each in properties["AssumeRolePolicyDocument"]["Statement"]],
            "managed_policies": properties.get("ManagedPolicyArns", []),
            "statements": [
                {
                    "effect": statement["Effect"],
                    "actions": as_list(statement["Action"]),
                    "resources": as_list(statement["Resource"]),
                    "condition": statement.get("Condition"),
                }
                for policy in properties.get("Policies", [])
                for statement in policy["PolicyDocument"]["Statement"]
            ],
        }

    def logical_id(self, arn):
        """Returns the logical id of the resource with this ARN."""
        for name, made in self.made.items():
            if arn == made.get("Arn"):
                return name
        return sys.exit(f"nothing in the stack has the ARN {arn}")


def as_list(value):
    return value if isinstance(value, list) else [value]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint", help="the address of the moto server, for example http://127.0.0.1:5000")
    parser.add_argument("template", help="the output of resolve_template.py")
    parser.add_argument("--stack-name", default="loops-clay-relay")
    parser.add_argument("--names-from-input", action="store_true", help="create a stack for each line of standard input")
    parser.add_argument("--region", default="us-east-1")
    arguments = parser.parse_args()
    with open(arguments.template, encoding="utf-8") as file:
        template = json.load(file)
    account = Account(arguments.endpoint, arguments.region)
    if not arguments.names_from_input:
        print(json.dumps(Stack(account, template, arguments.stack_name).describe(), indent=2))
        return
    for line in sys.stdin:
        print(json.dumps(Stack(account, template, line.strip()).describe()), flush=True)


if __name__ == "__main__":
    main()
