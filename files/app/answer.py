"""Builds the answer to one message out of the agent's message items (CODEX.md 3.1, 3.4; PLATFORM.md 10.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Answer"]

_SEPARATOR = "\n\n"
_FINAL = "final_answer"


@dataclass(slots=True)
class _Item:
    pieces: list[str] = field(default_factory=list)
    phase: str | None = None
    completed: bool = False

    @property
    def text(self) -> str:
        """All pieces; they are joined once and not with each delta, of which there may be a million."""
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class Answer:
    """Text by item id: deltas add to it, the completed text replaces it.

    Two views: `streamed` is everything said, in order, as a client sees it grow; `final` is what remains as
    the answer: the messages that the model marks as its final answer, or all of them where it marks none.
    """

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}

    @property
    def streamed(self) -> str:
        """All that was said so far."""
        return _SEPARATOR.join(item.text for item in self._items.values() if item.text)

    @property
    def final(self) -> str:
        """The answer as it stands."""
        texts = [item for item in self._items.values() if item.text.strip()]
        final = [item for item in texts if item.phase == _FINAL]
        return _SEPARATOR.join(item.text for item in final or texts)

    def start(self, item_id: str, phase: str | None) -> bool:
        """A message begins. Returns whether an unfinished one was dropped.

        Messages come one after another; one that never ended belongs to a stream that codex gave up and
        repeats.
        """
        dropped = self.drop_unfinished()
        self._items.setdefault(item_id, _Item(phase=phase))
        return dropped

    def delta(self, item_id: str, text: str) -> str:
        """A message goes on. Returns what `streamed` grew by."""
        item = self._items.setdefault(item_id, _Item())
        first = not item.pieces and any(other.pieces for other in self._items.values())
        item.pieces.append(text)
        return _SEPARATOR + text if first and text else text

    def complete(self, item_id: str, text: str, phase: str | None) -> str | None:
        """A message has ended with `text`. Returns what `streamed` grew by; None if it changed otherwise."""
        item = self._items.setdefault(item_id, _Item())
        before = item.text
        item.completed = True
        item.phase = phase or item.phase
        if text == before:
            return ""
        last = next(reversed(self._items)) == item_id
        if last and text.startswith(before):
            return self.delta(item_id, text[len(before) :])
        item.pieces = [text]
        return None

    def drop_unfinished(self) -> bool:
        """Forget messages that have not ended, their stream being given up. Returns whether text was lost."""
        unfinished = [key for key, item in self._items.items() if not item.completed]
        texts = [self._items.pop(key).text for key in unfinished]
        return any(texts)
