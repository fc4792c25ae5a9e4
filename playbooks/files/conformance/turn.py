"""Send an A2A message to a workspace of this host, and print `STATE: TEXT` of its task.

Arguments: the port of the workspace, the message, and `--state-only` for no text.
"""

from __future__ import annotations

import json
import sys
import uuid
from http.client import HTTPConnection

_SECONDS = 90.0


def main() -> int:
    """Send the message, and wait for the end of its task. Returns 1 where the workspace refuses it."""
    port, text, *options = sys.argv[1:]
    message = {"role": "user", "messageId": uuid.uuid4().hex, "parts": [{"kind": "text", "text": text}]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
    connection = HTTPConnection("127.0.0.1", int(port), timeout=_SECONDS)
    connection.request("POST", "/", json.dumps(call), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    if "error" in answer:
        sys.stderr.write(f"{answer['error']['message']}\n")
        return 1
    task = answer["result"]
    said = [*task.get("artifacts", []), task["status"].get("message") or {}]
    texts = [part.get("text", "") for each in said for part in each.get("parts", [])]
    state = task["status"]["state"]
    sys.stdout.write(f"{state}\n" if "--state-only" in options else f"{state}: {''.join(texts).strip()}\n")
    return 0


sys.exit(main())
