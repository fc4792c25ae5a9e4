"""What an adapter implements: one class named `Adapter` in the module that `ADAPTER_MODULE` names."""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from a2a.server.agent_execution import AgentExecutor

    from molecule_runtime.heartbeat import Heartbeat
    from molecule_runtime.plugins import McpServerSpec

__all__ = ["AdapterConfig", "AdapterHealth", "BaseAdapter", "RuntimeCapabilities"]


@dataclass(frozen=True, slots=True)
class RuntimeCapabilities:
    """What the agent does natively, so that the platform does not do it twice. All false by default."""

    provides_native_heartbeat: bool = False
    provides_native_scheduler: bool = False
    provides_native_session: bool = False
    provides_native_status_mgmt: bool = False
    provides_native_retry: bool = False
    provides_activity_decoration: bool = False
    provides_channel_dispatch: bool = False

    def to_wire(self) -> dict[str, bool]:
        """The seven flags under the heartbeat's names, such as `session` for `provides_native_session`."""
        return {
            item.name.removeprefix("provides_").removeprefix("native_"): getattr(self, item.name)
            for item in dataclasses.fields(self)
        }


@dataclass(slots=True)
class AdapterConfig:
    """What the runtime hands to an adapter, read from `config.yaml` and the environment.

    `system_prompt` is put together by the runtime before `setup` is called. `heartbeat` is the live
    `Heartbeat`, or None where no platform is configured. `mcp_servers` and `skills` (directories by name) are
    those of the workspace's plugins: all of them, so that an adapter takes away what is not there any more.
    """

    model: str
    system_prompt: str | None = None
    tools: list[Any] = field(default_factory=list)
    runtime_config: dict[str, Any] = field(default_factory=dict)
    config_path: str = "/configs"
    workspace_id: str = ""
    prompt_files: list[str] = field(default_factory=list)
    a2a_port: int = 8000
    heartbeat: Heartbeat | None = None
    mcp_servers: list[McpServerSpec] = field(default_factory=list)
    skills: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdapterHealth:
    """One look at the agent for `/readyz`: `detail` says in plain words why it is not ready, or what
    an operator should know of an agent that is."""

    ready: bool
    detail: str = ""


class BaseAdapter(ABC):
    """An agent as the runtime sees it. `name` must have no side effects: preflight calls it."""

    _executor: AgentExecutor | None = None

    @staticmethod
    @abstractmethod
    def name() -> str:
        """The runtime's identifier, equal to `runtime:` in `config.yaml`."""

    @staticmethod
    @abstractmethod
    def display_name() -> str:
        """The name that people read."""

    @staticmethod
    @abstractmethod
    def description() -> str:
        """One sentence about the agent."""

    @staticmethod
    def environment() -> Mapping[str, str]:
        """The process's variables, with those that an entry point has kept out of it. Raises RuntimeError."""
        return os.environ

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """JSON schema of `runtime_config`; empty where anything is allowed."""
        return {}

    @staticmethod
    def is_set(variable: str) -> bool:
        """Whether the agent has this variable; some keep credentials out of the environment."""
        return bool(os.environ.get(variable, "").strip())

    def input_modes(self) -> tuple[str, ...]:
        """Media types that a message may carry, as the card declares them; others are refused with -32005."""
        return ("text/plain", "application/json", "*/*")

    def capabilities(self) -> RuntimeCapabilities:
        """What the agent does natively."""
        return RuntimeCapabilities()

    def idle_timeout_override(self) -> int | None:
        """Seconds of silence after which the platform may give a turn up; None or <= 0 keeps its default."""
        return None

    @abstractmethod
    async def setup(self, config: AdapterConfig) -> None:
        """Prepare the agent. An exception is served as 503 with its text (redacted); the process lives on."""

    @abstractmethod
    async def create_executor(self, config: AdapterConfig) -> AgentExecutor:
        """Build the executor and keep it as `self._executor` as well. Called once, after `setup`."""

    def health(self) -> AdapterHealth:
        """Whether a message sent now would be worked on. Called on every `/readyz`: cheap, never blocking."""
        return AdapterHealth(ready=True)

    def credential_issued_at(self) -> float | None:
        """Unix time (s) at which the model credential was last issued or refreshed; None without an age."""
        return None

    async def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:  # noqa: ARG002 (contract)
        """At most `limit` lines from number `since` on, as the object that `/transcript` serves.

        `{"runtime","supported","lines","cursor","more","source"}`; `cursor` is the `since` of the next call.
        """
        return {
            "runtime": self.name(),
            "supported": False,
            "lines": [],
            "cursor": since,
            "more": False,
            "source": None,
        }

    async def pre_stop_state(self) -> dict[str, Any]:
        """What to keep over a restart, as JSON. Called once when the process is asked to stop."""
        return {}

    async def restore_state(self, snapshot: dict[str, Any]) -> None:  # noqa: B027 (optional hook)
        """Take back what `pre_stop_state` gave; called between `setup` and `create_executor`."""

    async def close(self) -> None:  # noqa: B027 (optional hook)
        """End what runs: interrupt the turn, stop the child, leave no orphan. Called once; 5 s to spend."""

    def memory_filename(self) -> str:
        """The file in the working tree that the agent reads as its memory."""
        return "AGENTS.md"
