"""Takes the workspace's own secrets out of texts that other people read.

What looks like a secret is found by its form (`runtime_hooks.without_secrets`); this finds the ones that the
workspace was given, whatever they look like.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from credentials import is_credential, is_secret_name
from runtime_hooks import MASK, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = ["SecretValues"]

# A shorter one is a word that would be taken out of every text.
_SHORTEST: Final = 6


class SecretValues:
    """The secrets of `env`: what logs in somewhere, by the names of the variables.

    `token` gives the one that changes while the workspace runs; "" without one.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        provider_variables: Collection[str] = (),
        token: Callable[[], str] = lambda: "",
    ) -> None:
        values = {
            value
            for name, text in env.items()
            if is_credential(name, provider_variables) or is_secret_name(name)
            for value in _parts(text.strip())
        }
        self._values = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._token = token

    def taken_out_of(self, text: str) -> str:
        """`text` with a mask in place of each secret."""
        for value in (self._token(), *self._values):
            if value and value in text:
                text = text.replace(value, MASK)
        return without_secrets(text)


def _parts(text: str) -> Iterator[str]:
    """The secret itself; of a JSON document (an account) each text in it that is long enough to be one."""
    if text.startswith("{"):
        try:
            yield from _texts(json.loads(text))
        except ValueError:
            yield text
    elif len(text) >= _SHORTEST:
        yield text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str) and len(value) >= 4 * _SHORTEST:
        yield value


def _forms(value: str) -> Iterator[str]:
    """As it is, as it stands in JSON, and its lines, where it has several."""
    yield value
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield from (line for line in value.splitlines() if len(line) >= 2 * _SHORTEST)
