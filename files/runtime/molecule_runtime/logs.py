"""One log line per event on stderr, plain or JSON, with secrets taken out of every value."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from molecule_runtime.redaction import redact, shortened

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["LEVELS", "configure", "get_logger"]

_LONGEST = 4000
"""Characters of one value in a log line; a traceback is one."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# a2a logs every refused request with a traceback, httpx every request with its URL; both name user content.
_QUIET = {
    "a2a": logging.CRITICAL,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "mcp": logging.WARNING,
    "uvicorn": logging.WARNING,
}


def configure(level: str = "INFO", *, as_json: bool = False) -> None:
    """Send structlog's and the standard library's records to stderr at `level` (one of `LEVELS`)."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_values,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, floor in _QUIET.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else floor)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for the module `name`; keyword arguments become fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _redact_values(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets out, and cut what is too long: a value may be what a client has sent."""
    for key, value in event.items():
        if isinstance(value, str):
            # Looked through a little further than it is shown, since a secret may stand at the cut.
            shown = redact(value[: 2 * _LONGEST])
            event[key] = (
                shown if len(value) <= _LONGEST else f"{shown[:_LONGEST]}... ({len(value)} characters)"
            )
        elif isinstance(value, dict | list | tuple | bytes | BaseException) and len(repr(value)) > _LONGEST:
            event[key] = shortened(redact(repr(value)[: 2 * _LONGEST]), _LONGEST)
    return event
