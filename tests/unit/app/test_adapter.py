from __future__ import annotations

import importlib
import tomllib
from typing import TYPE_CHECKING

import pytest

from adapter import Adapter
from codex_binary import CodexNotFoundError
from codex_config import ConfigTomlError
from codex_setup import molecule_mcp_server
from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter
from provider_config import ProviderError
from workspace_config import ConfigFileError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdapterConfig:
    configs = tmp_path / "configs"
    configs.mkdir()
    for name in (
        "CODEX_AUTH_JSON",
        "CODEX_CHATGPT_AUTH_JSON",
        "MINIMAX_API_KEY",
        "LLM_PROVIDER",
        "MODEL_PROVIDER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    monkeypatch.setenv("CONFIGS_DIR", str(configs))
    monkeypatch.setenv("WORKSPACE_ID", "ws-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    return AdapterConfig(model="ignored", config_path=str(configs), workspace_id="ws-1")


def test_the_module_that_the_image_names_exports_the_adapter() -> None:
    """B-29: that is how it is registered, and no package of others is changed for it."""
    module = importlib.import_module("adapter")
    assert issubclass(module.Adapter, BaseAdapter)
    assert module.Adapter.name() == "codex"


async def test_setup_writes_what_codex_needs_and_a_second_one_changes_nothing(
    tmp_path: Path, config: AdapterConfig
) -> None:
    await Adapter().setup(config)
    path = tmp_path / "codex" / "config.toml"
    first = path.read_bytes()
    await Adapter().setup(config)
    assert path.read_bytes() == first
    document = tomllib.loads(first.decode())
    assert document["sandbox_mode"] == "danger-full-access"
    assert document["mcp_servers"]["molecule"]["env"]["WORKSPACE_ID"] == "ws-1"
    assert "sk-1" not in first.decode()


async def test_no_credential_stops_the_setup_with_what_to_set(
    config: AdapterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ProviderError, match="set CODEX_AUTH_JSON or"):
        await Adapter().setup(config)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("model: openai-api\n", ProviderError),
        ("bridge: {sandbox: never}\n", ConfigFileError),
        ("a: [\n", ConfigFileError),
    ],
)
async def test_a_mistake_of_the_operator_stops_the_setup_before_anything_is_written(
    tmp_path: Path, config: AdapterConfig, text: str, error: type[Exception]
) -> None:
    (tmp_path / "configs" / "config.yaml").write_text(text)
    with pytest.raises(error):
        await Adapter().setup(config)
    assert not (tmp_path / "codex").exists()


async def test_a_broken_config_toml_stops_the_setup_with_its_line(
    tmp_path: Path, config: AdapterConfig
) -> None:
    (tmp_path / "codex").mkdir()
    (tmp_path / "codex" / "config.toml").write_text("ok = 1\nbroken\n")
    with pytest.raises(ConfigTomlError, match=r"config\.toml:2:"):
        await Adapter().setup(config)


async def test_a_codex_that_is_not_installed_is_named(
    tmp_path: Path, config: AdapterConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    adapter = Adapter()
    await adapter.setup(config)
    with pytest.raises(CodexNotFoundError, match="'codex' is not an executable on PATH"):
        await adapter.create_executor(config)


async def test_before_its_time_the_adapter_is_not_ready_and_has_no_transcript(config: AdapterConfig) -> None:
    adapter = Adapter()
    assert not adapter.health().ready
    assert adapter.idle_timeout_override() is None
    assert adapter.credential_issued_at() is None
    assert (await adapter.transcript_lines())["lines"] == []
    with pytest.raises(RuntimeError, match="setup comes before"):
        await adapter.create_executor(config)
    await adapter.close()


async def test_the_platform_is_told_to_be_as_patient_as_we_are(config: AdapterConfig) -> None:
    adapter = Adapter()
    await adapter.setup(config)
    assert adapter.idle_timeout_override() == 3660


def test_the_mcp_child_gets_the_directory_as_it_was_resolved_here(tmp_path: Path) -> None:
    server = molecule_mcp_server(
        {"WORKSPACE_ID": "ws-1", "PLATFORM_URL": "", "OPENAI_API_KEY": "k"}, tmp_path
    )
    assert server is not None
    assert server.env == {"CONFIGS_DIR": str(tmp_path), "WORKSPACE_ID": "ws-1"}
    assert server.command.startswith("/")
