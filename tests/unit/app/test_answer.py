from __future__ import annotations

from answer import Answer


def test_deltas_add_up_and_the_completed_text_changes_nothing_that_was_right() -> None:
    answer = Answer()
    answer.start("a", None)
    assert answer.delta("a", "Hel") == "Hel"
    assert answer.delta("a", "lo") == "lo"
    assert answer.complete("a", "Hello", None) == ""
    assert answer.final == answer.streamed == "Hello"


def test_a_completed_text_that_goes_on_adds_only_its_rest() -> None:
    answer = Answer()
    answer.delta("a", "Hel")
    assert answer.complete("a", "Hello", None) == "lo"
    assert answer.streamed == "Hello"


def test_a_completed_text_that_differs_replaces_what_was_streamed() -> None:
    answer = Answer()
    answer.delta("a", "Hullo")
    assert answer.complete("a", "Hello", None) is None
    assert answer.streamed == "Hello"


def test_messages_are_parted_by_an_empty_line_while_they_stream_and_afterwards() -> None:
    answer = Answer()
    grown = answer.delta("a", "One.")
    answer.complete("a", "One.", None)
    answer.start("b", None)
    grown += answer.delta("b", "Two.")
    assert grown == answer.streamed == answer.final == "One.\n\nTwo."


def test_a_message_that_comes_complete_is_parted_from_the_one_before() -> None:
    answer = Answer()
    answer.complete("a", "One.", None)
    assert answer.complete("b", "Two.", None) == "\n\nTwo."


def test_the_final_answer_is_what_remains_where_one_is_marked() -> None:
    answer = Answer()
    answer.start("a", "commentary")
    answer.complete("a", "I will look.", "commentary")
    answer.complete("b", "Done.", "final_answer")
    assert answer.streamed == "I will look.\n\nDone."
    assert answer.final == "Done."


def test_commentary_is_the_answer_where_nothing_else_was_said() -> None:
    answer = Answer()
    answer.complete("a", "I will look.", "commentary")
    assert answer.final == "I will look."


def test_an_unfinished_message_is_dropped_when_the_next_begins() -> None:
    answer = Answer()
    answer.delta("a", "Half an ans")
    assert answer.start("b", None)
    answer.delta("b", "The whole answer.")
    assert answer.final == "The whole answer."


def test_a_message_that_never_ends_keeps_what_was_said() -> None:
    answer = Answer()
    answer.start("a", None)
    answer.delta("a", "Said.")
    assert answer.final == "Said."
