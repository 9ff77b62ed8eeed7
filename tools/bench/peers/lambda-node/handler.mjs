// The job of loops-to-clay as a user would write it: verify the webhook, store it in the queue, answer.
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Webhook } from "standardwebhooks";

// The queue of the measurement makes no checksums.
const queue = new SQSClient({ md5: false });
const webhook = new Webhook(process.env.LOOPS_SIGNING_SECRET);

export async function handler(event) {
  let payload;
  try {
    payload = webhook.verify(event.body, event.headers);
  } catch {
    return { statusCode: 401, body: JSON.stringify({ error: "invalid signature" }) };
  }
  await queue.send(
    new SendMessageCommand({
      QueueUrl: process.env.CLAY_QUEUE_URL,
      MessageBody: JSON.stringify(payload),
      MessageGroupId: payload.contactIdentity.id,
      MessageDeduplicationId: event.headers["webhook-id"],
    }),
  );
  return { statusCode: 200, body: JSON.stringify({ status: "queued" }) };
}
