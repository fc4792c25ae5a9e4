"""The public base of an adapter, as the platform documents it: its names, fields and signatures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2a.server.agent_execution import AgentExecutor


@dataclass
class AdapterConfig:
    """`system_prompt` is None: who wants one builds it."""

    model: str
    system_prompt: str | None = None
    tools: list[str] = field(default_factory=list)
    runtime_config: dict[str, Any] = field(default_factory=dict)
    config_path: str = "/configs"
    workspace_id: str = ""
    prompt_files: list[str] = field(default_factory=list)
    a2a_port: int = 8000
    heartbeat: Any = None


@dataclass(frozen=True)
class RuntimeCapabilities:
    """What the agent does by itself."""

    provides_native_heartbeat: bool = False
    provides_native_scheduler: bool = False
    provides_native_session: bool = False
    provides_native_status_mgmt: bool = False
    provides_native_retry: bool = False
    provides_activity_decoration: bool = False
    provides_channel_dispatch: bool = False


class BaseAdapter(ABC):
    """What an adapter implements, and what it may."""

    @staticmethod
    @abstractmethod
    def name() -> str:
        """The identifier."""

    @staticmethod
    @abstractmethod
    def display_name() -> str:
        """The name that people read."""

    @staticmethod
    @abstractmethod
    def description() -> str:
        """One sentence."""

    @staticmethod
    def get_config_schema() -> dict[str, Any]:
        """JSON schema of `runtime_config`."""
        return {}

    def capabilities(self) -> RuntimeCapabilities:
        """What the agent does by itself."""
        return RuntimeCapabilities()

    def idle_timeout_override(self) -> int | None:
        """Seconds."""
        return None

    async def transcript_lines(self, since: int = 0, limit: int = 100) -> dict[str, Any]:
        """Nothing."""
        return {"runtime": self.name(), "supported": False, "lines": [], "cursor": since}

    def pre_stop_state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore_state(self, snapshot: dict[str, Any]) -> None:  # noqa: B027 (optional)
        """Nothing."""

    @abstractmethod
    async def setup(self, config: AdapterConfig) -> None:
        """Once, before `create_executor`."""

    @abstractmethod
    async def create_executor(self, config: AdapterConfig) -> AgentExecutor:
        """Once."""
