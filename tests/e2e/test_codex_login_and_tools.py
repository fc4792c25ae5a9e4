"""Credentials and MCP tools with the real codex binary."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from codex import LoginError
from support.codex_workbench import API_KEY, Workbench
from support.responses_server import Answer, Call, ResponsesServer

pytestmark = pytest.mark.anyio

_TINY = Path(__file__).parents[1] / "support" / "tiny_mcp.py"
_BUILT_IN = """\
openai_base_url = "{base_url}"
cli_auth_credentials_store = "file"

[features]
apps = false
plugins = false
"""


def _jwt(claims: dict[str, object]) -> str:
    parts = ({"alg": "none"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*encoded, "c2ln"))


def _mcp(name: str, path: Path) -> str:
    return f'\n[mcp_servers.{name}]\ncommand = "{sys.executable}"\nargs = ["{_TINY}", "{path}"]\n'


@pytest.mark.parametrize(
    ("server", "sandbox", "runs"),
    [
        ("molecule", "danger-full-access", True),
        ("molecule", "workspace-write", True),
        ("other", "workspace-write", False),
    ],
)
async def test_our_own_mcp_tools_run_in_every_sandbox_and_those_of_others_never_hang_the_turn(
    tmp_path: Path, model: ResponsesServer, server: str, sandbox: str, runs: bool
) -> None:
    """Outside of danger-full-access codex asks its client before an unannotated tool runs (CODEX.md 9.4)."""
    written = tmp_path / "written.txt"
    model.script(Call("write", {"text": "x"}, namespace=f"mcp__{server}__"), Answer.text("Done."))
    async with Workbench(tmp_path, model.base_url, sandbox=sandbox, config=_mcp(server, written)) as bench:
        assert await bench.send("write").completed() == "Done."
    assert written.exists() == runs
    (output,) = model.requests[1].tool_outputs.values()
    assert ("written" if runs else "rejected") in json.dumps(output)


async def test_an_api_key_reaches_the_built_in_provider_by_login(
    tmp_path: Path, model: ResponsesServer
) -> None:
    """codex 0.130.0 sends no OPENAI_API_KEY of its environment."""
    model.script(Answer.text("Hello."))
    bench = Workbench(tmp_path, "", api_key=API_KEY)
    (bench.codex_home / "config.toml").write_text(_BUILT_IN.format(base_url=model.base_url))
    async with bench:
        assert await bench.send("hello").completed() == "Hello."
    assert model.requests[0].headers["authorization"] == f"Bearer {API_KEY}"
    assert (bench.codex_home / "auth.json").stat().st_mode & 0o777 == 0o600


async def test_without_a_login_the_built_in_provider_is_unauthorized(tmp_path: Path, codex: Path) -> None:
    async with ResponsesServer() as model:
        bench = Workbench(tmp_path, "", env={"OPENAI_API_KEY": API_KEY})
        (bench.codex_home / "config.toml").write_text(_BUILT_IN.format(base_url=model.base_url))
        async with bench:
            sent = bench.send("hello")
            await sent.failed()
            assert sent.failure == "unauthorized"
        assert set(model.failures) == {"no Authorization header"}


async def test_a_subscription_is_never_overwritten_by_an_api_key(tmp_path: Path, codex: Path) -> None:
    bench = Workbench(tmp_path, "", api_key=API_KEY)
    account = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "acc"}
    claims = _jwt({"email": "a@b.c", "https://api.openai.com/auth": account, "exp": 4102444800})
    tokens = {"id_token": claims, "access_token": claims, "refresh_token": "r", "account_id": "acc"}
    auth = json.dumps({"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": "2099-01-01T00:00:00Z"})
    (bench.codex_home / "auth.json").write_text(auth)
    (bench.codex_home / "config.toml").write_text('cli_auth_credentials_store = "file"\n')
    with pytest.raises(LoginError, match="would overwrite"):
        await bench.codex.start()
    await bench.executor.close()
    assert (bench.codex_home / "auth.json").read_text() == auth
