"""Makes a stack in a running moto server, from what translate.py has made of the template.

usage: provision.py ENDPOINT TEMPLATE [--stack-name NAME | --names-from-input] [--region REGION]

TEMPLATE is a file. With --names-from-input, each line of the standard input is the name of a stack to make, and each stack is
one line of output: whoever needs many starts this program once. moto's own CloudFormation leaves out secrets, alarms and HTTP APIs without a word,
so the secrets, queues and the table are made here, with exactly the properties that the template gives them. Everything else
(functions, routes, event sources, alarms, log groups, roles) is not made but described, with every reference resolved, in the
one JSON document that is printed: whoever reads it can run the stack.

What the template uses and this program does not know is an error, so that nothing is left out here either.
"""

import argparse
import json
import re
import sys

import boto3
from botocore.config import Config

NOTHING = object()


class Account:
    """The emulated services."""

    def __init__(self, endpoint, region):
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)
        options = {"endpoint_url": endpoint, "config": Config(proxies={}, retries={"total_max_attempts": 1})}
        self.sqs = session.client("sqs", **options)
        self.dynamodb = session.client("dynamodb", **options)
        self.secrets_manager = session.client("secretsmanager", **options)
        self.id = session.client("sts", **options).get_caller_identity()["Account"]
        self.region = region


class Stack:
    """A stack in the making: resources are made when something first refers to them."""

    def __init__(self, account, template, name):
        self.template = template
        self.resources = template["Resources"]
        self.name = name
        self.region = account.region
        self.sqs = account.sqs
        self.dynamodb = account.dynamodb
        self.secrets_manager = account.secrets_manager
        self.account = account.id
        self.parameters = {}
        for parameter, declared in template.get("Parameters", {}).items():
            if "Default" not in declared:
                sys.exit(f"the parameter {parameter} has no default: give it to translate.py")
            self.parameters[parameter] = str(declared["Default"])
        self.pseudo = {
            "AWS::StackName": name,
            "AWS::Region": self.region,
            "AWS::AccountId": self.account,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NoValue": NOTHING,
        }
        self.made = {}

    # References.

    def resolve(self, value):
        """The value with every reference in it resolved."""
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
        """Whether a condition, named or written out, holds."""
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
        return "Condition" not in self.resources[name] or self.holds(self.resources[name]["Condition"])

    def of_type(self, kind):
        """The resources of a type that are part of the stack, by their names in the template."""
        return {name: each for name, each in self.resources.items() if each["Type"] == kind and self.exists(name)}

    def properties(self, name):
        return self.resolve(self.resources[name].get("Properties", {}))

    def make(self, name):
        """What a resource's name and attributes stand for; it is made, if it was not yet."""
        if name not in self.made:
            if name not in self.resources:
                sys.exit(f"the template has no {name}")
            maker = MAKERS.get(self.resources[name]["Type"])
            if maker is None:
                sys.exit(f"{name}: {self.resources[name]['Type']} is not known here")
            self.made[name] = maker(self, name)
        return self.made[name]

    def make_queue(self, name):
        properties = self.properties(name)
        queue = properties.pop("QueueName")
        attributes = {
            key: json.dumps(value) if isinstance(value, dict) else self.as_text(value) for key, value in properties.items()
        }
        url = self.sqs.create_queue(QueueName=queue, Attributes=attributes)["QueueUrl"]
        return {"Ref": url, "QueueUrl": url, "QueueName": queue, "Arn": self.arn("sqs", queue)}

    def make_table(self, name):
        properties = self.properties(name)
        table = properties["TableName"]
        ttl = properties.pop("TimeToLiveSpecification", None)
        recovery = properties.pop("PointInTimeRecoverySpecification", None)
        if "SSESpecification" in properties:
            encryption = properties.pop("SSESpecification")
            properties["SSESpecification"] = {"Enabled": encryption.pop("SSEEnabled"), **encryption}
        made = self.dynamodb.create_table(**properties)["TableDescription"]
        if ttl:
            self.dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=ttl)
        if recovery:
            self.dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=recovery)
        return {"Ref": table, "Arn": made["TableArn"]}

    def make_secret(self, name):
        properties = self.properties(name)
        generate = properties.pop("GenerateSecretString", None)
        if generate is not None:
            template, key = generate.pop("SecretStringTemplate", None), generate.pop("GenerateStringKey", None)
            value = self.secrets_manager.get_random_password(**generate)["RandomPassword"]
            if template is not None:
                value = json.dumps({**json.loads(template), key: value})
            properties["SecretString"] = value
        arn = self.secrets_manager.create_secret(**properties)["ARN"]
        return {"Ref": arn, "Id": arn, "Name": properties["Name"]}

    def name_function(self, name):
        function = self.resolve(self.resources[name]["Properties"]["FunctionName"])
        return {"Ref": function, "Arn": self.arn("lambda", f"function:{function}")}

    def name_role(self, name):
        role = f"{self.name}-{name}"
        return {"Ref": role, "Arn": f"arn:aws:iam::{self.account}:role/{role}"}

    def name_log_group(self, name):
        group = self.properties(name)["LogGroupName"]
        return {"Ref": group, "Arn": self.arn("logs", f"log-group:{group}:*")}

    def name_api(self, name):
        api = f"{self.name}-{name}".lower()
        return {"Ref": api, "ApiId": api, "ApiEndpoint": f"https://{api}.execute-api.{self.region}.amazonaws.com"}

    def name_topic(self, name):
        topic = f"{self.name}-{name}"
        return {"Ref": self.arn("sns", topic), "TopicArn": self.arn("sns", topic), "TopicName": topic}

    def name_nothing(self, name):
        return {"Ref": f"{self.name}-{name}"}

    def arn(self, service, resource):
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    @staticmethod
    def as_text(value):
        return str(value).lower() if isinstance(value, bool) else str(value)

    # What is printed.

    def describe(self):
        """Makes the whole stack, and tells what it is."""
        for name in self.resources:
            if self.exists(name):
                self.make(name)
        return {
            "stack": self.name,
            "region": self.region,
            "account": self.account,
            "parameters": self.parameters,
            "outputs": {name: self.resolve(each["Value"]) for name, each in self.template.get("Outputs", {}).items()},
            "secrets": {name: self.describe_secret(name) for name in self.of_type("AWS::SecretsManager::Secret")},
            "queues": {name: self.describe_queue(name) for name in self.of_type("AWS::SQS::Queue")},
            "tables": {name: self.describe_table(name) for name in self.of_type("AWS::DynamoDB::Table")},
            "functions": {self.binary(name): self.describe_function(name) for name in self.of_type("AWS::Lambda::Function")},
            "routes": [route for name in self.of_type("AWS::ApiGatewayV2::Api") for route in self.describe_routes(name)],
            "stages": [self.describe_stage(name) for name in self.of_type("AWS::ApiGatewayV2::Stage")],
            "event_sources": [self.describe_source(name) for name in self.of_type("AWS::Lambda::EventSourceMapping")],
            "metric_filters": {name: self.properties(name) for name in self.of_type("AWS::Logs::MetricFilter")},
            "alarms": {name: self.properties(name) for name in self.of_type("AWS::CloudWatch::Alarm")},
            "topics": {name: self.properties(name) for name in self.of_type("AWS::SNS::Topic")},
            "log_groups": {name: self.describe_log_group(name) for name in self.of_type("AWS::Logs::LogGroup")},
            "roles": {name: self.describe_role(name) for name in self.of_type("AWS::IAM::Role")},
        }

    def describe_secret(self, name):
        made = self.made[name]
        value = self.secrets_manager.get_secret_value(SecretId=made["Ref"])["SecretString"]
        return {"arn": made["Ref"], "name": made["Name"], "document": json.loads(value)}

    def describe_queue(self, name):
        made = self.made[name]
        attributes = self.sqs.get_queue_attributes(QueueUrl=made["Ref"], AttributeNames=["All"])["Attributes"]
        redrive = json.loads(attributes.pop("RedrivePolicy", "null"))
        if redrive:
            redrive = {
                "dead_letters": self.called(redrive["deadLetterTargetArn"]),
                "max_receive_count": int(redrive["maxReceiveCount"]),
            }
        return {
            "url": made["Ref"],
            "arn": made["Arn"],
            "name": made["QueueName"],
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
            "environment": {key: str(value) for key, value in properties["Environment"]["Variables"].items()},
            "role": self.called(properties["Role"]),
            "logging": properties["LoggingConfig"],
        }

    def describe_routes(self, name):
        functions = {self.made[each]["Arn"]: self.binary(each) for each in self.of_type("AWS::Lambda::Function")}
        allowed = {self.resolve(each["Properties"]["SourceArn"]) for each in self.of_type("AWS::Lambda::Permission").values()}
        for path, methods in self.properties(name)["Body"]["paths"].items():
            for method, operation in methods.items():
                integration = operation["x-amazon-apigateway-integration"]
                arn = integration["uri"].split("/functions/")[1].removesuffix("/invocations")
                source = self.arn("execute-api", f"{self.made[name]['Ref']}/*/{method.upper()}{path}")
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
            "access_log": {"log_group": self.called(log["DestinationArn"]), "format": log["Format"]},
        }

    def describe_source(self, name):
        properties = self.properties(name)
        queue = self.called(properties["EventSourceArn"])
        functions = {self.made[each]["Ref"]: self.binary(each) for each in self.of_type("AWS::Lambda::Function")}
        return {
            "queue": queue,
            "queue_url": self.made[queue]["Ref"],
            "function": functions[properties["FunctionName"]],
            "batch_size": int(properties["BatchSize"]),
            "maximum_concurrency": properties.get("ScalingConfig", {}).get("MaximumConcurrency"),
            "report_batch_item_failures": "ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        }

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

    def called(self, arn):
        """What the template calls the resource of this ARN."""
        for name, made in self.made.items():
            if arn == made.get("Arn"):
                return name
        return sys.exit(f"nothing in the stack has the ARN {arn}")


MAKERS = {
    "AWS::SQS::Queue": Stack.make_queue,
    "AWS::DynamoDB::Table": Stack.make_table,
    "AWS::SecretsManager::Secret": Stack.make_secret,
    "AWS::Lambda::Function": Stack.name_function,
    "AWS::Lambda::EventSourceMapping": Stack.name_nothing,
    "AWS::Lambda::Permission": Stack.name_nothing,
    "AWS::IAM::Role": Stack.name_role,
    "AWS::Logs::LogGroup": Stack.name_log_group,
    "AWS::ApiGatewayV2::Api": Stack.name_api,
    "AWS::ApiGatewayV2::Stage": Stack.name_nothing,
    "AWS::Logs::MetricFilter": Stack.name_nothing,
    "AWS::CloudWatch::Alarm": Stack.name_nothing,
    "AWS::SNS::Topic": Stack.name_topic,
}


def as_list(value):
    return value if isinstance(value, list) else [value]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint", help="where the moto server is, for example http://127.0.0.1:5000")
    parser.add_argument("template", help="what translate.py has written")
    parser.add_argument("--stack-name", default="loops-clay-relay")
    parser.add_argument("--names-from-input", action="store_true", help="make a stack for each line of standard input")
    parser.add_argument("--region", default="us-east-1")
    given = parser.parse_args()
    with open(given.template, encoding="utf-8") as file:
        template = json.load(file)
    account = Account(given.endpoint, given.region)
    if not given.names_from_input:
        print(json.dumps(Stack(account, template, given.stack_name).describe(), indent=2))
        return
    for line in sys.stdin:
        print(json.dumps(Stack(account, template, line.strip()).describe()), flush=True)


if __name__ == "__main__":
    main()
