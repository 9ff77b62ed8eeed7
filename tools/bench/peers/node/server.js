// Stores signed webhooks, as a user would write it. Settings: PORT, DATABASE, SIGNING_SECRET.
import Database from "better-sqlite3";
import Fastify from "fastify";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const { PORT, DATABASE, SIGNING_SECRET } = process.env;

const database = new Database(DATABASE);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.exec(`CREATE TABLE IF NOT EXISTS webhooks (
  id TEXT PRIMARY KEY, contact TEXT NOT NULL, body BLOB NOT NULL, received_at INTEGER NOT NULL)`);
const insert = database.prepare("INSERT OR IGNORE INTO webhooks VALUES (?, ?, ?, ?)");

const webhook = new Webhook(SIGNING_SECRET);
const server = Fastify();
// The signature is that of the bytes as they came.
server.addContentTypeParser("application/json", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

server.post("/webhooks/loops", (request, reply) => {
  let event;
  try {
    event = webhook.verify(request.body, request.headers);
  } catch (error) {
    if (error instanceof WebhookVerificationError) return reply.code(401).send({ success: false });
    throw error;
  }
  insert.run(request.headers["webhook-id"], event.contactIdentity.email, request.body, Date.now());
  reply.send({ success: true });
});

await server.listen({ host: "127.0.0.1", port: Number(PORT) });
