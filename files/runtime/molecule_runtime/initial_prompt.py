"""The first words that a new workspace says to itself, once in its life, and those that it says when idle."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_chain,
    wait_fixed,
)

from config_document import NotTextError, read_text
from molecule_runtime import configs_dir, logs, spending
from molecule_runtime.platform import PlatformClient, PlatformError
from molecule_runtime.platform_budget import exceeded_periods, pause_seconds, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from molecule_runtime.config import WorkspaceConfig

__all__ = ["SOURCE_TYPES", "SelfKind", "SelfPrompts", "prompt_text", "self_message"]

_log = logs.get_logger(__name__)

SelfKind = Literal["initial", "idle", "delegation", "smoke"]
SOURCE_TYPES: dict[SelfKind, str] = {
    "initial": "self-lifecycle",
    "idle": "self-idle",
    "delegation": "self-delegation-result",
    "smoke": "self-warmup",
}
"""What the platform calls the messages that a workspace sends to itself."""

MARKER = ".initial_prompt_done"
_WAITS = (1.0, 2.0, 4.0, 8.0)
_BOUND_TIMEOUT = 60.0


def self_message(kind: SelfKind, text: str) -> dict[str, Any]:
    """A `message/send` from the workspace to itself; its messageId is `<kind>-<8 hex>`.

    `params.metadata.source_type` names it as such: without that the platform shows it as the user's words.
    """
    identifier = f"{kind}-{uuid.uuid4().hex[:8]}"
    message = {
        "messageId": identifier,
        "role": "user",
        "kind": "message",
        "parts": [{"kind": "text", "text": text}],
    }
    params = {"message": message, "metadata": {"source_type": SOURCE_TYPES[kind]}}
    return {"jsonrpc": "2.0", "id": identifier, "method": "message/send", "params": params}


class SelfPrompts:
    """Sends the configured prompts through the platform, as messages of the workspace to itself."""

    def __init__(
        self,
        client: PlatformClient,
        config: WorkspaceConfig,
        config_dir: Path,
        *,
        waits: Sequence[float] = _WAITS,
        fallback: Path = Path("/workspace"),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._config = config
        self._config_dir = config_dir
        self._waits = waits
        self._fallback = fallback
        self._sleep = sleep

    async def send_initial(self, bound: asyncio.Event) -> bool:
        """Send the initial prompt unless that was tried before; True if it was delivered.

        The marker is written first: a prompt that makes the workspace crash must not do so at every start.
        `bound` is set when the port is open; after 60 s without it the prompt is sent all the same (B-43).
        """
        config = self._config
        text = prompt_text(config.initial_prompt, config.initial_prompt_file, self._config_dir)
        if text and (reason := spending.closed()):
            # Not marked: it is said at the first start at which a budget allows it.
            _log.warning("initial prompt not sent", reason=reason)
            return False
        if not text or not _mark_attempt([configs_dir.resolve(), self._fallback]):
            return False
        try:
            async with asyncio.timeout(_BOUND_TIMEOUT):
                await bound.wait()
        except TimeoutError:
            _log.warning("the port is not open yet; sending the initial prompt all the same")
        request = self_message("initial", text)
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(len(self._waits) + 1),
                wait=wait_chain(*(wait_fixed(seconds) for seconds in self._waits)),
                retry=retry_if_exception(_may_succeed_later),
                reraise=True,
            ):
                with attempt:
                    await self._client.send_a2a(self._client.workspace_id, request)
        except PlatformError as error:
            _log.warning("initial prompt not delivered", reason=_why(error))
            return False
        _log.info("initial prompt delivered")
        return True

    async def send_idle(self, idle: Callable[[], bool]) -> None:
        """Send the idle prompt every `idle_interval_seconds` in which `idle()` holds, until cancelled."""
        config = self._config
        text = prompt_text(config.idle_prompt, config.idle_prompt_file, self._config_dir)
        if not text:
            return
        interval = config.idle_interval_seconds
        while True:
            await self._sleep(interval)
            if not idle() or spending.closed():
                continue
            request = self_message("idle", text)
            try:
                await self._client.send_a2a(
                    self._client.workspace_id, request, min(max(60.0, interval), 300.0)
                )
            except PlatformError as error:
                _log.warning("idle prompt not delivered", status=error.status, reason=_why(error))
                if (periods := exceeded_periods(error.status, error.body)) is not None:
                    await self._sleep(pause_seconds(periods))


def _may_succeed_later(error: BaseException) -> bool:
    return isinstance(error, PlatformError) and error.status != 402


def _why(error: PlatformError) -> str:
    periods = exceeded_periods(error.status, error.body)
    return refusal(periods) if periods is not None else str(error)


def prompt_text(inline: str, file_name: str, config_dir: Path) -> str:
    """The prompt itself: the inline text, else the file's; "" where there is neither."""
    if inline or not file_name:
        return inline.strip()
    try:
        return read_text(config_dir / file_name).strip()
    except (OSError, NotTextError) as error:
        _log.warning("prompt file cannot be read", file=file_name, reason=str(error))
        return ""


def _mark_attempt(directories: Sequence[Path]) -> bool:
    """Write the marker where that is possible; False if there is one, or it can be written nowhere."""
    if any((directory / MARKER).exists() for directory in directories):
        return False
    for directory in directories:
        try:
            (directory / MARKER).write_text("attempted", "utf-8")
        except OSError:
            continue
        return True
    _log.warning("the initial prompt is not sent: its marker can be written nowhere")
    return False
