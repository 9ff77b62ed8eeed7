"""Stores signed webhooks, as a user would write it. Settings: DATABASE, SIGNING_SECRET."""

import os
import sqlite3
import time

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from standardwebhooks import Webhook, WebhookVerificationError

# Without a transaction of its own, each statement is committed.
database = sqlite3.connect(os.environ["DATABASE"], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute(
    "CREATE TABLE IF NOT EXISTS webhooks"
    " (id TEXT PRIMARY KEY, contact TEXT NOT NULL, body BLOB NOT NULL, received_at INTEGER NOT NULL)"
)

webhook = Webhook(os.environ["SIGNING_SECRET"])
app = FastAPI()


@app.post("/webhooks/loops")
async def receive(request: Request):
    body = await request.body()
    try:
        event = webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return JSONResponse({"success": False}, status_code=401)
    row = (request.headers["webhook-id"], event["contactIdentity"]["email"], body, time.time_ns() // 1_000_000)
    database.execute("INSERT OR IGNORE INTO webhooks VALUES (?, ?, ?, ?)", row)
    return {"success": True}
