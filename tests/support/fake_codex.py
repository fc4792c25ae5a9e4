"""A scripted app-server, for what the real one cannot be made to do. `fake_codex STATE BEHAVIOUR`.

It insists on the handshake (initialize, then initialized, then the rest) and ends with status 3 when it is
spoken to in another way. STATE counts its starts, so that a behaviour can be that of the first child only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

THREAD = "01a20b82-3b3a-7692-af1b-15b846648020"


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def notify(method: str, **params: Any) -> None:
    send({"method": method, "params": params})


def lines() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        message: dict[str, Any] = json.loads(line)
        yield message


class Fake:
    """One child. Each `turn_<behaviour>` is what it does with a turn."""

    def __init__(self, start: int, behaviour: str) -> None:
        self.start = start
        self.behaviour = behaviour
        self.messages = lines()
        self.turns = 0
        self.refusals = 0

    def run(self) -> None:
        """Serve until stdin ends."""
        self.handshake()
        for message in self.messages:
            self.serve(message)

    def handshake(self) -> None:
        first = next(self.messages)
        if first.get("method") != "initialize":
            sys.exit(3)
        if self.behaviour == "crash_in_handshake":
            sys.stderr.write("cannot start: the moon is full\n")
            sys.exit(7)
        send({"id": first["id"], "result": {"userAgent": "fake", "codexHome": "/"}})
        if next(self.messages).get("method") != "initialized":
            sys.exit(3)

    def serve(self, message: dict[str, Any]) -> None:
        method, identifier = message.get("method"), message.get("id")
        if method == "account/read":
            send({"id": identifier, "result": {"account": None, "requiresOpenaiAuth": False}})
        elif method == "thread/start" and self.behaviour == "mute":
            return
        elif method in ("thread/start", "thread/resume"):
            sandbox = "readOnly" if self.behaviour == "read_only" else "dangerFullAccess"
            given = message["params"]
            result = {
                "thread": {"id": THREAD},
                "sandbox": {"type": sandbox},
                "approvalPolicy": "never",
                "model": "another" if self.behaviour == "other_model" else given.get("model"),
                "modelProvider": "another"
                if self.behaviour == "other_provider"
                else given.get("modelProvider", "openai"),
            }
            send({"id": identifier, "result": result})
        elif method == "turn/start":
            self.turns += 1
            text = "".join(item.get("text", "") for item in message["params"]["input"])
            getattr(self, f"turn_{self.behaviour}", self.turn_plain)(identifier, text)
        elif method == "turn/interrupt" and self.behaviour == "disobedient":
            send({"id": identifier, "result": {}})
        elif identifier is not None:
            send({"id": identifier, "error": {"code": -32600, "message": f"unknown variant {method}"}})

    # -- pieces of a turn ---------------------------------------------------------------------------

    def begin(self, identifier: Any, text: str) -> str:
        turn = f"turn-{self.start}-{self.turns}"
        send({"id": identifier, "result": {"turn": {"id": turn, "status": "inProgress", "items": []}}})
        notify("turn/started", threadId=THREAD, turn={"id": turn, "status": "inProgress"})
        item = {"type": "userMessage", "id": f"u-{turn}", "content": [{"type": "text", "text": text}]}
        notify("item/started", threadId=THREAD, turnId=turn, item=item)
        return turn

    def say(self, turn: str, text: str, item: str = "m") -> None:
        notify(
            "item/completed",
            threadId=THREAD,
            turnId=turn,
            item={"type": "agentMessage", "id": item, "text": text, "phase": None},
        )

    def end(self, turn: str, status: str = "completed") -> None:
        notify("turn/completed", threadId=THREAD, turn={"id": turn, "status": status, "error": None})

    # -- behaviours ---------------------------------------------------------------------------------

    def turn_plain(self, identifier: Any, text: str) -> None:
        turn = self.begin(identifier, text)
        self.say(turn, f"answer to {text}")
        self.end(turn)

    def turn_huge(self, identifier: Any, text: str) -> None:
        """A line of 5 MB."""
        turn = self.begin(identifier, text)
        self.say(turn, "x" * 5_000_000)
        self.end(turn)

    def turn_garbage(self, identifier: Any, text: str) -> None:
        """Lines that are no messages, between those that are."""
        turn = self.begin(identifier, text)
        for line in (
            "{",
            "[1, 2]",
            "plain text",
            '{"neither": 1}',
            "",
            '{"id": 99999, "result": {}}',
            "null",
        ):
            sys.stdout.write(line + "\n")
        self.say(turn, "intact")
        self.end(turn)

    def turn_foreign(self, identifier: Any, text: str) -> None:
        """Notifications of other turns and threads, and ones from before the answer to turn/start."""
        self.say("turn-of-yesterday", "not this")
        turn = self.begin(identifier, text)
        notify("item/agentMessage/delta", threadId=THREAD, turnId="another", itemId="m", delta="nor this")
        notify("item/agentMessage/delta", threadId="another", turnId=turn, itemId="m", delta="nor that")
        self.end("turn-of-yesterday", "failed")
        self.say(turn, "only this")
        self.end(turn)

    def turn_requests(self, identifier: Any, text: str) -> None:
        """Requests of the server, with ids that are ours as well; the turn ends with what came back."""
        turn = self.begin(identifier, text)
        answers = []
        for number, method in enumerate(
            ("item/fileChange/requestApproval", "mcpServer/elicitation/request", "no/suchRequest")
        ):
            params = {"threadId": THREAD, "turnId": turn, "serverName": "other", "mode": "form"}
            send({"id": number, "method": method, "params": params})
            answers.append(next(self.messages))
        self.say(turn, json.dumps(answers))
        self.end(turn)

    def turn_overloaded(self, identifier: Any, text: str) -> None:
        """-32001 twice, then all is well."""
        if self.refusals < 2:
            self.refusals += 1
            send({"id": identifier, "error": {"code": -32001, "message": "Server overloaded; retry later."}})
        else:
            self.turn_plain(identifier, text)

    def turn_crash_once(self, identifier: Any, text: str) -> None:
        """The first child dies before it answers."""
        if self.start == 1:
            sys.stderr.write("\x1b[31mthread main panicked\x1b[0m\n")
            sys.stderr.flush()
            os._exit(101)
        self.turn_plain(identifier, text)

    def turn_crash_always(self, identifier: Any, text: str) -> None:
        """Every child dies before it answers."""
        os._exit(101)

    def turn_eof(self, identifier: Any, text: str) -> None:
        """The first child closes its output in the middle of a turn and lives on."""
        if self.start > 1:
            self.turn_plain(identifier, text)
            return
        self.begin(identifier, text)
        os.close(1)
        signal.pause()

    def turn_deaf(self, identifier: Any, text: str) -> None:
        """The first child reads nothing any more."""
        if self.start > 1:
            self.turn_plain(identifier, text)
            return
        signal.pause()

    def turn_disobedient(self, identifier: Any, text: str) -> None:
        """The first child begins a turn, and no interrupt ends it."""
        if self.start > 1:
            self.turn_plain(identifier, text)
            return
        self.begin(identifier, text)

    def turn_late(self, identifier: Any, text: str) -> None:
        """A command that is reported as completed once its turn has ended, and a thread of another agent."""
        turn = self.begin(identifier, text)
        self.say(turn, "done")
        self.end(turn)
        command = {"type": "commandExecution", "id": "c", "command": f"echo {text}", "status": "completed"}
        notify("item/completed", threadId=THREAD, turnId=turn, item=command)
        notify("item/completed", threadId="of-a-sub-agent", turnId="x", item={**command, "command": "ls"})
        notify("item/completed", threadId=THREAD, turnId=turn, item=None)

    def turn_holder(self, identifier: Any, text: str) -> None:
        """A grandchild in a session of its own holds our pipes; its process id is the answer."""
        holder = subprocess.Popen(
            [sys.executable, "-c", "import signal; signal.alarm(60); signal.pause()"], start_new_session=True
        )
        turn = self.begin(identifier, text)
        self.say(turn, str(holder.pid))
        self.end(turn)

    def turn_stubborn(self, identifier: Any, text: str) -> None:
        """Neither the end of stdin nor SIGTERM ends it, and it has a child of its own."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        self.turn_plain(identifier, text)
        for message in self.messages:
            self.serve(message)
        while True:
            time.sleep(1)


def main() -> None:
    """Count the start and behave."""
    state, behaviour = Path(sys.argv[1]), sys.argv[2]
    start = int(state.read_text()) + 1 if state.exists() else 1
    state.write_text(str(start))
    Fake(start, behaviour).run()


if __name__ == "__main__":
    main()
