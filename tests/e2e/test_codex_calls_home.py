"""What codex sends beside its turns, with a subscription whose back end is the stand-in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from codex_config import CodexConfig, write_config_toml
from provider_config import resolve_provider
from support.codex_workbench import Workbench
from support.responses_server import Answer, ResponsesServer
from support.token_endpoint import jwt
from support.watchdog import DAY, auth_document
from support.workspace_container import until
from workspace_config import load_workspace_config

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

# A config.toml of the user: the stand-in as back end, and no zstd, which it does not speak.
_OWN = """\
openai_base_url = "{root}/v1"
chatgpt_base_url = "{root}/backend-api"

[features]
enable_request_compression = false
"""
_ASKED_FOR = "apps = true\nplugins = true\n\n[analytics]\nenabled = true\n"
_HOME = ("/plugins/featured", "/connectors/directory", "/wham/apps", "/analytics-events")


def subscribed(directory: Path, model: ResponsesServer, *, own: str = "") -> Workbench:
    """A workspace with a subscription, its config.toml rendered over `own`."""
    model.api_key = None
    account = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account-1", "chatgpt_user_id": "user-1"}
    id_token = jwt({"email": "user@example.com", "https://api.openai.com/auth": account})
    text = json.dumps(auth_document(expires_in=10 * DAY, id_token=id_token))
    bench = Workbench(directory, "")
    (bench.codex_home / "auth.json").write_text(text)
    (bench.codex_home / "config.toml").write_text(_OWN.format(root=model.base_url.removesuffix("/v1")) + own)
    selection = resolve_provider(load_workspace_config(None), {"CODEX_AUTH_JSON": text})
    write_config_toml(bench.codex_home, CodexConfig(selection))
    return bench


async def test_connectors_plugins_and_analytics_are_off(tmp_path: Path, model: ResponsesServer) -> None:
    model.script(Answer.text("Hello."))
    async with subscribed(tmp_path, model) as bench:
        assert await bench.send("hello").completed() == "Hello."
    assert model.failures == [], "the fixture fails for them too"


async def test_they_are_on_where_config_toml_asks_for_them(tmp_path: Path, codex: Path) -> None:
    async with ResponsesServer() as model:
        model.script(Answer.text("Hello."))
        async with subscribed(tmp_path, model, own=_ASKED_FOR) as bench:
            assert await bench.send("hello").completed() == "Hello."

            async def called_home() -> bool:
                return all(path in "\n".join(model.failures) for path in _HOME)

            await until(called_home, "each of them was asked for")
