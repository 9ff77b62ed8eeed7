"""The job of loops-to-clay as a user would write it: verify the webhook, store it in the queue, answer."""

import json
import os

import boto3
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

queue = boto3.client("sqs")
webhook = Webhook(os.environ["LOOPS_SIGNING_SECRET"])


def handler(event, _context):
    try:
        payload = webhook.verify(event["body"], event["headers"])
    except WebhookVerificationError:
        return {"statusCode": 401, "body": json.dumps({"error": "invalid signature"})}
    queue.send_message(
        QueueUrl=os.environ["CLAY_QUEUE_URL"],
        MessageBody=json.dumps(payload),
        MessageGroupId=payload["contactIdentity"]["id"],
        MessageDeduplicationId=event["headers"]["webhook-id"],
    )
    return {"statusCode": 200, "body": json.dumps({"status": "queued"})}
