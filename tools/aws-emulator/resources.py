"""Creates the resources of a template in an emulated account, each when it is first referred to."""

import io
import json
import re
import sys
import zipfile

from template_refs import Template

# CloudFormation rejects a stack without resources; a wait condition handle has no effect.
HANDLE = {"Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}


def no_code():
    """A zip file with an empty program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("bootstrap", "")
    return file.getvalue()


NO_CODE = no_code()


class StackResources(Template):
    """A template whose resources are created on first reference."""

    def __init__(self, account, template, name):
        super().__init__(template, name, account.region, account.id)
        self.sqs = account.sqs
        self.dynamodb = account.dynamodb
        self.secrets_manager = account.secrets_manager
        self.cloudformation = account.cloudformation
        self.lambda_ = account.lambda_
        self.iam = account.iam
        self.cloudwatch = account.cloudwatch
        self.logs = account.logs
        self.made = {}
        # The emulator's stack has the template's name and outputs, but none of its resources.
        self.pseudo["AWS::StackId"] = self.cloudformation.create_stack(StackName=name, **self.stack_with({}))["StackId"]

    def make(self, name):
        """Returns a resource's Ref and attributes; creates it on the first call."""
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

    def make_queue_policy(self, name):
        properties = self.properties(name)
        for url in properties["Queues"]:
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(properties["PolicyDocument"])})
        return {"Ref": f"{self.name}-{name}"}

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

    def make_secret_policy(self, name):
        properties = self.properties(name)
        policy = json.dumps(properties["ResourcePolicy"])
        self.secrets_manager.put_resource_policy(SecretId=properties["SecretId"], ResourcePolicy=policy)
        return {"Ref": properties["SecretId"]}

    def environment_of(self, name):
        """Returns the variables of a function, with the secrets that CloudFormation reads for them."""
        variables = self.properties(name)["Environment"]["Variables"]
        read = lambda match: self.secrets_manager.get_secret_value(SecretId=match[1])["SecretString"]  # noqa: E731
        return {key: re.sub(r"\{\{resolve:secretsmanager:(.+)\}\}", read, str(value)) for key, value in variables.items()}

    def make_function(self, name):
        """Creates a function with its settings and an empty program: the emulator never runs it."""
        properties = self.properties(name)
        made = self.lambda_.create_function(
            FunctionName=properties["FunctionName"],
            Runtime=properties["Runtime"],
            Handler=properties["Handler"],
            Role=properties["Role"],
            Code={"ZipFile": NO_CODE},
            Environment={"Variables": self.environment_of(name)},
        )
        return {"Ref": made["FunctionName"], "Arn": made["FunctionArn"]}

    def make_source(self, name):
        properties = self.properties(name)
        made = self.lambda_.create_event_source_mapping(
            EventSourceArn=properties["EventSourceArn"],
            FunctionName=properties["FunctionName"],
            BatchSize=int(properties["BatchSize"]),
            Enabled=True,
        )
        return {"Ref": made["UUID"], "Id": made["UUID"]}

    def make_role(self, name):
        role = f"{self.name}-{name}"
        trust = json.dumps(self.properties(name)["AssumeRolePolicyDocument"])
        made = self.iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]
        return {"Ref": role, "Arn": made["Arn"]}

    def make_log_group(self, name):
        properties = self.properties(name)
        group = properties.pop("LogGroupName")
        days = int(properties.pop("RetentionInDays"))
        self.logs.create_log_group(logGroupName=group, **properties)
        self.logs.put_retention_policy(logGroupName=group, retentionInDays=days)
        return {"Ref": group, "Arn": self.arn("logs", f"log-group:{group}:*")}

    def make_metric_filter(self, name):
        properties = self.properties(name)
        transformations = [{key[0].lower() + key[1:]: each[key] for key in each} for each in properties["MetricTransformations"]]
        self.logs.put_metric_filter(
            logGroupName=properties["LogGroupName"],
            filterName=f"{self.name}-{name}",
            filterPattern=properties["FilterPattern"],
            metricTransformations=transformations,
        )
        return {"Ref": f"{self.name}-{name}"}

    def name_api(self, name):
        api = f"{self.name}-{name}".lower()
        return {"Ref": api, "ApiId": api, "ApiEndpoint": f"https://{api}.execute-api.{self.region}.amazonaws.com"}

    def name_topic(self, name):
        topic = f"{self.name}-{name}"
        return {"Ref": self.arn("sns", topic), "TopicArn": self.arn("sns", topic), "TopicName": topic}

    def make_alarm(self, name):
        properties = self.properties(name)
        for number, kind in (("Period", int), ("EvaluationPeriods", int), ("Threshold", float)):
            if number in properties:
                properties[number] = kind(properties[number])
        self.cloudwatch.put_metric_alarm(**properties)
        alarm = properties["AlarmName"]
        return {"Ref": alarm, "Arn": self.arn("cloudwatch", f"alarm:{alarm}")}

    def make_dashboard(self, name):
        properties = self.properties(name)
        errors = self.cloudwatch.put_dashboard(**properties).get("DashboardValidationMessages")
        if errors:
            sys.exit(f"{name}: {errors}")
        return {"Ref": properties["DashboardName"]}

    def name_nothing(self, name):
        return {"Ref": f"{self.name}-{name}"}

    def arn(self, service, resource):
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    @staticmethod
    def as_text(value):
        return str(value).lower() if isinstance(value, bool) else str(value)

    # The stack itself.

    def put_outputs(self):
        """Sets the outputs of the emulated stack, for DescribeStacks."""
        outputs = {name: self.resolve(each) for name, each in self.template.get("Outputs", {}).items() if self.is_made(each)}
        self.cloudformation.update_stack(StackName=self.name, **self.stack_with(outputs))
        return {name: each["Value"] for name, each in outputs.items()}

    def stack_with(self, outputs):
        declared = {name: {"Type": "String", "Default": value} for name, value in self.parameters.items()}
        return {"TemplateBody": json.dumps({"Parameters": declared, "Resources": HANDLE, "Outputs": outputs})}


MAKERS = {
    "AWS::SQS::Queue": StackResources.make_queue,
    "AWS::SQS::QueuePolicy": StackResources.make_queue_policy,
    "AWS::DynamoDB::Table": StackResources.make_table,
    "AWS::SecretsManager::Secret": StackResources.make_secret,
    "AWS::SecretsManager::ResourcePolicy": StackResources.make_secret_policy,
    "AWS::Lambda::Function": StackResources.make_function,
    "AWS::Lambda::EventSourceMapping": StackResources.make_source,
    "AWS::Lambda::Permission": StackResources.name_nothing,
    "AWS::IAM::Role": StackResources.make_role,
    "AWS::Logs::LogGroup": StackResources.make_log_group,
    "AWS::Logs::MetricFilter": StackResources.make_metric_filter,
    "AWS::ApiGatewayV2::Api": StackResources.name_api,
    "AWS::ApiGatewayV2::Stage": StackResources.name_nothing,
    "AWS::CloudWatch::Alarm": StackResources.make_alarm,
    "AWS::CloudWatch::Dashboard": StackResources.make_dashboard,
    "AWS::SNS::Topic": StackResources.name_topic,
}
