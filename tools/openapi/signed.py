"""Signs requests of schemathesis to the webhook route, with the public package, so that they pass the signature check."""

from datetime import datetime, timezone

import schemathesis
from requests.auth import AuthBase
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Signed(AuthBase):
    def __init__(self, identifier):
        self.identifier = identifier

    def __call__(self, request):
        body = request.body or b""
        now = datetime.now(tz=timezone.utc)
        text = body.decode() if isinstance(body, bytes) else body
        request.headers["webhook-id"] = self.identifier
        request.headers["webhook-timestamp"] = str(int(now.timestamp()))
        request.headers["webhook-signature"] = Webhook(SECRET).sign(self.identifier, now, text)
        return request


@schemathesis.hook
def before_call(context, case, kwargs):
    # A case that generates the headers itself is sent as it is.
    identifier = (case.headers or {}).get("webhook-id")
    if case.path == "/webhooks/loops" and case.method == "POST" and identifier and identifier.isascii() and identifier.isalnum():
        kwargs["auth"] = Signed(identifier)
