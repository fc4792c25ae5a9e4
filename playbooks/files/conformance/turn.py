"""Send an A2A message to a workspace of this host, and print `STATE: TEXT` of its task.

Arguments: the port of the workspace, the message, and `--state-only` for no text.
"""

from __future__ import annotations

import json
import sys
import uuid
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_SECONDS = 90.0
# Where a workspace keeps what it asks for: of a service, its own, or its platform's.
_BEARERS = (
    "/etc/codex-workspace/credentials/CODEX_WORKSPACE_A2A_TOKEN",
    "/configs/.a2a_token",
    "/configs/.platform_inbound_secret",
)


def main() -> int:
    """Send the message, and wait for the end of its task. Returns 1 where the workspace refuses it."""
    port, text, *options = sys.argv[1:]
    message = {"role": "user", "messageId": uuid.uuid4().hex, "parts": [{"kind": "text", "text": text}]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
    status, answer = _post(int(port), call, "")
    for name in _BEARERS:
        if status == 401 and Path(name).exists():
            status, answer = _post(int(port), call, Path(name).read_text("ascii").strip())
    if "error" in answer:
        error = answer["error"]
        sys.stderr.write(f"{error['message'] if isinstance(error, dict) else error}\n")
        return 1
    task = answer["result"]
    said = [*task.get("artifacts", []), task["status"].get("message") or {}]
    texts = [part.get("text", "") for each in said for part in each.get("parts", [])]
    state = task["status"]["state"]
    sys.stdout.write(f"{state}\n" if "--state-only" in options else f"{state}: {''.join(texts).strip()}\n")
    return 0


def _post(port: int, call: dict[str, Any], bearer: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    connection.request("POST", "/", json.dumps(call), headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


sys.exit(main())
