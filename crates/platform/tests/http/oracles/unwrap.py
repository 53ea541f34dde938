"""The SDK's check of a webhook delivery."""

import json
import os

import anthropic

client = anthropic.Anthropic(api_key="unused", webhook_key=os.environ["SECRET"])
body, headers = os.environ["BODY"], json.loads(os.environ["HEADERS"])
event = client.beta.webhooks.unwrap(body, headers=headers)
altered_refused = False
try:
    client.beta.webhooks.unwrap(body + " ", headers=headers)
except Exception:
    altered_refused = True
print(json.dumps({"type": event.data.type, "id": event.data.id, "altered_refused": altered_refused}))
