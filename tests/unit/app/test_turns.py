from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from failures import FailureKind
from reply import Completed, Failed
from turns import Message, Turn

if TYPE_CHECKING:
    from turns import InputItem

pytestmark = pytest.mark.anyio


async def message(text: str) -> Message:
    async def items() -> list[InputItem]:
        return [{"type": "text", "text": text}]

    made = Message(text, items())
    await made.input
    return made


class Script:
    """A turn with the id `t`, told by short calls."""

    def __init__(self, first: Message) -> None:
        self.tools: list[tuple[str, bool]] = []
        self.turn = Turn(
            first, changed=lambda: None, on_tool=lambda item, done: self.tools.append((item["type"], done))
        )
        self.turn.identify("t")
        self.turn.handle("turn/started", {"threadId": "x", "turn": {"id": "t"}})
        self.user(first.id)

    def tell(self, method: str, **params: Any) -> None:
        self.turn.handle(method, {"threadId": "x", "turnId": "t", **params})

    def user(self, text: str) -> None:
        self.tell(
            "item/started",
            item={"type": "userMessage", "id": "u", "content": [{"type": "text", "text": text}]},
        )

    def say(self, item_id: str, text: str, phase: str | None = None) -> None:
        item = {"type": "agentMessage", "id": item_id, "text": "", "phase": phase}
        self.tell("item/started", item=item)
        self.tell("item/agentMessage/delta", itemId=item_id, delta=text)
        self.tell("item/completed", item={**item, "text": text})

    def tool(self) -> None:
        self.tell("item/started", item={"type": "commandExecution", "id": "c"})

    def end(self, status: str = "completed", error: dict[str, Any] | None = None) -> list[Message]:
        self.turn.handle("turn/completed", {"turn": {"id": "t", "status": status, "error": error}})
        return self.turn.end(interrupted_by_us=False)


async def test_a_message_ends_with_what_was_said_before_the_next_one_was_taken_up() -> None:
    one, two = await message("one"), await message("two")
    script = Script(one)
    script.turn.steered.append(two)
    script.say("a", "Answer to one.")
    script.user("two")
    assert one.reply.outcome == Completed("Answer to one.")
    script.say("b", "Answer to two.")
    assert script.end() == []
    assert two.reply.outcome == Completed("Answer to two.")


@pytest.mark.parametrize("between", ["tool", "plan", "terminal", "commentary"])
async def test_a_message_stays_open_while_the_agent_is_in_the_middle_of_its_work(between: str) -> None:
    one, two = await message("one"), await message("two")
    script = Script(one)
    script.turn.steered.append(two)
    script.say("a", "Let me see.", "commentary" if between == "commentary" else None)
    match between:
        case "tool":
            script.tool()
        case "plan":
            script.tell("turn/plan/updated")
        case "terminal":
            script.tell("item/commandExecution/terminalInteraction")
    script.user("two")
    assert not one.done
    script.say("b", "Both done.", "final_answer" if between == "commentary" else None)
    script.end()
    assert two.reply.outcome == Completed("Both done.")
    said = "Both done." if between == "commentary" else "Let me see.\n\nBoth done."
    assert one.reply.outcome == Completed(said)


async def test_a_command_that_completes_late_does_not_keep_an_answered_message_open() -> None:
    one, two = await message("one"), await message("two")
    script = Script(one)
    script.turn.steered.append(two)
    script.tool()
    script.say("a", "Answer to one.")
    script.tell("item/completed", item={"type": "commandExecution", "id": "c"})
    script.user("two")
    assert one.reply.outcome == Completed("Answer to one.")
    assert script.tools == [("commandExecution", False), ("commandExecution", True)]


async def test_what_codex_puts_in_as_a_user_message_is_nobodys() -> None:
    one, two = await message("one"), await message("two")
    script = Script(one)
    script.turn.steered.append(two)
    script.user("<environment_context/>")
    assert list(script.turn.steered) == [two]


async def test_an_error_that_is_tried_again_drops_the_half_message_and_ends_nothing() -> None:
    one = await message("one")
    script = Script(one)
    script.tell("item/started", item={"type": "agentMessage", "id": "a"})
    script.tell("item/agentMessage/delta", itemId="a", delta="Half")
    script.tell("error", error={"message": "Reconnecting... 1/5"}, willRetry=True)
    assert script.turn.status is None
    assert script.turn.error is None
    script.say("b", "Whole.")
    script.end()
    assert one.reply.outcome == Completed("Whole.")


async def test_a_failed_turn_fails_every_message_that_it_still_works_for() -> None:
    one = await message("one")
    script = Script(one)
    error = {"message": "unexpected status 401 Unauthorized", "codexErrorInfo": "other"}
    script.say("a", "Half an answer.")
    script.tell("error", error=error, willRetry=False)
    script.end("failed", error)
    outcome = one.reply.outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.kind is FailureKind.UNAUTHORIZED


async def test_the_error_of_an_earlier_turn_fails_no_turn_that_went_well() -> None:
    one = await message("one")
    script = Script(one)
    script.say("a", "Fine.")
    script.end("failed", {"message": "input must not be empty", "codexErrorInfo": "badRequest"})
    assert one.reply.outcome == Completed("Fine.")


async def test_a_turn_that_failed_without_a_word_is_a_failure_even_without_an_error_of_its_own() -> None:
    one = await message("one")
    script = Script(one)
    script.end("failed", {"message": "boom", "codexErrorInfo": "other"})
    assert isinstance(one.reply.outcome, Failed)


async def test_a_message_that_was_not_taken_up_is_sent_again() -> None:
    one, two = await message("one"), await message("two")
    script = Script(one)
    script.turn.steered.append(two)
    script.say("a", "Answer to one.")
    assert script.end() == [two]


async def test_an_interrupt_for_one_message_sends_the_others_again_with_a_clean_slate() -> None:
    one, two = await message("one"), await message("two")
    script = Script(one)
    script.turn.steered.append(two)
    script.tool()
    script.user("two")
    script.say("a", "About both")
    one.cancel()
    script.turn.handle("turn/completed", {"turn": {"id": "t", "status": "interrupted"}})
    assert script.turn.end(interrupted_by_us=True) == [two]
    assert two.answer.streamed == ""


async def test_an_interrupt_that_nobody_of_us_asked_for_is_a_failure() -> None:
    one = await message("one")
    script = Script(one)
    script.end("interrupted")
    assert isinstance(one.reply.outcome, Failed)


async def test_notifications_from_before_the_turns_id_is_known_are_not_lost() -> None:
    one = await message("one")
    turn = Turn(one, changed=lambda: None, on_tool=lambda _item, _done: None)
    turn.handle("turn/started", {"turn": {"id": "t"}})
    turn.handle(
        "item/completed", {"turnId": "t", "item": {"type": "agentMessage", "id": "a", "text": "Early."}}
    )
    turn.handle(
        "item/completed", {"turnId": "old", "item": {"type": "agentMessage", "id": "b", "text": "Old."}}
    )
    turn.identify("t")
    assert turn.started
    assert one.answer.final == "Early."
