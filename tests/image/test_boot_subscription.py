"""A ChatGPT subscription in the image: the workspace that owns its account, and those that follow another.

The token endpoint runs in a container of its own, whose network the workspace shares: the watchdog sends
tokens over plain HTTP to loopback only.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.responses_server import Answer, Call, HttpError, Request, ResponsesServer, Step
from support.secret_search import find_secrets
from support.token_endpoint import PATH, jwt
from support.watchdog import DAY, REFRESH_TOKEN, auth_document
from support.workspace_container import WorkspaceContainer, docker, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.fake_platform import FakePlatform

pytestmark = pytest.mark.anyio

LONGEST_STORY = 15
PORT = 9000
SCRIPT = Path(__file__).parents[1] / "support" / "token_endpoint.py"
AUTH = "/home/agent/.codex/auth.json"
STATUS = "/home/agent/.codex/auth_refresh_status.json"
OVERRIDE = {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"http://127.0.0.1:{PORT}{PATH}", "STANDIN_KEY": ""}
CLAIMS = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account-1", "chatgpt_user_id": "user-1"}


@pytest.fixture(autouse=True)
def any_token(model: ResponsesServer) -> Iterator[None]:
    """The stand-in takes each bearer, and the test looks at it."""
    model.api_key, key = None, model.api_key
    yield
    model.api_key = key


def document(number: int, *, age: float, expires_in: float = 60, **tokens: Any) -> dict[str, Any]:
    """The subscription of one account, in the version `number`."""
    claims = {"email": "user@example.com", "https://api.openai.com/auth": CLAIMS, "number": number}
    made = auth_document(age=age, expires_in=expires_in, id_token=jwt(claims), **tokens)
    made["tokens"]["access_token"] += f"-{number}"
    return made


class Endpoint:
    """The token endpoint in its container."""

    def __init__(self) -> None:
        self.name = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"

    async def asked(self) -> int:
        """How often it was asked for tokens. Fails where a request was not as it should be."""
        lines = (await docker("logs", self.name)).splitlines()
        assert lines[-1] == "serving" or lines[-1].endswith(" 0 faults"), lines
        return len(lines) - 1

    async def release(self) -> None:
        """Let it answer."""
        await docker("exec", self.name, "touch", "/released")


@contextlib.asynccontextmanager
async def token_endpoint(image: str) -> AsyncIterator[Endpoint]:
    """It takes the first refresh token once, and answers nothing before it is told to."""
    endpoint = Endpoint()
    command = (SCRIPT.name, "--port", str(PORT), "--grant", REFRESH_TOKEN, "--hold-until", "/released")
    own = ("--name", endpoint.name, "--publish=127.0.0.1::8000", "--workdir=/", "--entrypoint=python3")
    await docker("create", *own, image, *command)
    try:
        await docker("cp", str(SCRIPT), f"{endpoint.name}:/{SCRIPT.name}")
        await docker("start", endpoint.name)

        async def serving() -> bool:
            return "serving" in await docker("logs", endpoint.name)

        await until(serving, "the token endpoint serves")
        yield endpoint
    finally:
        await docker("rm", "--force", endpoint.name)


def home(model: ResponsesServer) -> dict[str, str]:
    """A config.toml of the user: another endpoint, and no zstd, which the stand-in does not speak."""
    own = f'openai_base_url = "{model.base_url}"\n[features]\nenable_request_compression = false\n'
    return {".codex/config.toml": own}


async def installed(workspace: WorkspaceContainer, name: str = "auth.json") -> dict[str, Any]:
    """The tokens in auth.json, or what stands beside it in a workspace that refreshes nothing."""
    found: dict[str, Any] = json.loads(await workspace.sh(f"cat /home/agent/.codex/{name}"))["tokens"]
    return found


async def watchdog(workspace: WorkspaceContainer) -> set[str]:
    """The process ids of the watchdog."""
    found = await workspace.sh("grep -l codex_auth_refres[h] /proc/[0-9]*/cmdline; true", user="agent")
    return {path.split("/")[2] for path in found.splitlines() if path.split("/")[2].isdigit()}


async def test_a_workspace_with_an_account_of_its_own(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    """B-9: the subscription is a secret of many lines. B-24: it is refreshed once, and never set back."""
    given = document(1, age=8 * DAY)
    text = json.dumps(given, indent=2)
    load = 'export CODEX_AUTH_JSON="$(cat /configs/secrets.d/CODEX_AUTH_JSON)"\n'
    async with (
        token_endpoint(image) as endpoint,
        WorkspaceContainer(
            image,
            "name: Subscribed\n",
            env={**OVERRIDE, "CODEX_AUTH_REFRESH_OWNER": "1"},
            files={"secrets.d/CODEX_AUTH_JSON": text, "secrets.d/load.sh": load},
            home_files=home(model),
            platform=platform,
            network=endpoint.name,
        ) as workspace,
    ):
        # The endpoint does not answer yet: neither the boot nor a turn waits for the watchdog.
        story = await workspace.says("registered with the platform")
        for fact in (
            "secrets: CODEX_AUTH_JSON from /configs/secrets.d/load.sh",
            f"{AUTH}: written from CODEX_AUTH_JSON",
            "the watchdog keeps auth.json fresh (owner: CODEX_AUTH_REFRESH_OWNER=1)",
            "credential=CODEX_AUTH_JSON model=gpt-5.5 provider=openai-subscription",
        ):
            assert fact in story
        assert len(story.splitlines()) <= LONGEST_STORY, story
        assert await workspace.sh(f"cat {AUTH}") == text
        assert await workspace.sh(f"stat -c '%a %U' {AUTH}") == "600 agent"
        config = tomllib.loads(await workspace.sh("cat /home/agent/.codex/config.toml"))
        assert (config["cli_auth_credentials_store"], config["forced_login_method"]) == ("file", "chatgpt")
        assert "model_providers" not in config
        model.script(Answer.text("Hello."))
        assert await workspace.answer("hello") == "Hello."
        headers = model.requests[0].headers
        assert headers["authorization"] == f"Bearer {given['tokens']['access_token']}"
        assert headers["chatgpt-account-id"] == "account-1"

        await endpoint.release()

        async def refreshed() -> bool:
            return bool((await installed(workspace))["refresh_token"] == "rt-secret-issued-1")

        await until(refreshed, "the watchdog refreshes the token that is about to expire")
        fresh = await workspace.sh(f"cat {AUTH}")
        await workspace.recreate()
        story = await workspace.says("registered with the platform")
        assert f"{AUTH}: kept, its tokens are not older than those in CODEX_AUTH_JSON" in story
        assert await workspace.sh(f"cat {AUTH}") == fresh
        await workspace.says("codex_auth_refresh: skip:")
        assert await endpoint.asked() == 1

        old = {f"given {name}": given["tokens"][name] for name in ("access_token", "refresh_token")}
        new = await installed(workspace)
        found = await find_secrets(
            workspace, {**old, "access_token": new["access_token"], "refresh_token": new["refresh_token"]}
        )
        by_the_platform = {"/configs/secrets.d/CODEX_AUTH_JSON"}
        assert [found.pop(name) for name in old] == [by_the_platform, by_the_platform]
        assert found == {"access_token": {AUTH}, "refresh_token": {AUTH}}

        before = await watchdog(workspace)
        assert len(before) == 2
        await workspace.sh(f"kill -9 {max(before, key=int)}", user="agent")
        await workspace.says("the watchdog died (exit code 137) and is started again")

        async def back() -> bool:
            return len(await watchdog(workspace)) == 2

        await until(back, "the watchdog is there again")


async def test_under_a_platform_nothing_is_refreshed_unless_somebody_asks(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    given = document(1, age=DAY, expires_in=3 * 3600)
    platform.secret_values = {"CODEX_AUTH_JSON": json.dumps(given)}
    async with (
        token_endpoint(image) as endpoint,
        WorkspaceContainer(
            image,
            "name: Of the platform\n",
            env={**OVERRIDE, "CODEX_AUTH_JSON": json.dumps(given)},
            home_files=home(model),
            platform=platform,
            network=endpoint.name,
        ) as workspace,
    ):
        story = await workspace.says("registered with the platform")
        assert (
            "OAuth: follower, this workspace refreshes nothing (CODEX_AUTH_REFRESH_OWNER is not set" in story
        )
        assert await watchdog(workspace) == set()
        status = json.loads(await workspace.sh(f"cat {STATUS}"))
        assert status["watchdog_last_outcome"] == "skip:not_refresh_owner"
        assert await endpoint.asked() == 0

        # As root, who has another home, an operator asks for a round.
        await endpoint.release()
        once = "codex_auth_refresh.sh --once 2>&1; echo $?"
        assert (await workspace.sh(f"CODEX_AUTH_REFRESH_OWNER=0 {once}")).splitlines()[-1] == "1"
        assert await endpoint.asked() == 0
        said = (await workspace.sh(once)).splitlines()
        assert said[-1] == "0", said
        assert (await installed(workspace))["refresh_token"] == "rt-secret-issued-1"
        names = f"{AUTH} {AUTH}.lock {STATUS} /home/agent/.codex/auth-refresh-status.json"
        assert await workspace.sh(f"stat -c '%a %U' {names}") == "\n".join(["600 agent"] * 4)
        assert await workspace.sh("ls -A /root/.codex 2>&1; true") == (
            "ls: cannot access '/root/.codex': No such file or directory"
        )
        assert json.loads(await workspace.sh(f"cat {STATUS}"))["watchdog_last_outcome"] == "refreshed"
        assert (await workspace.sh(once)).splitlines()[-1] == "1"
        assert (await workspace.sh(f"CODEX_HOME=/tmp/none {once}")).splitlines()[-1] == "1"
        assert await endpoint.asked() == 1


async def test_a_new_follower_that_has_no_token_of_the_platform_yet_registers_to_fetch_its_account(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    given = document(1, age=DAY, expires_in=DAY)
    platform.secret_values = {"CODEX_AUTH_JSON": json.dumps(given)}
    env = {"CODEX_AUTH_REFRESH_OWNER": "0", "STANDIN_KEY": ""}
    async with WorkspaceContainer(
        image, "name: New follower\n", env=env, home_files=home(model), platform=platform
    ) as workspace:
        story = await workspace.says("registered with the platform")
        assert story.index("auth.synced") < story.index("codex.started")
        model.script(Answer.text("Hello."))
        assert await workspace.answer("hello") == "Hello."
        assert model.requests[0].headers["authorization"] == f"Bearer {given['tokens']['access_token']}"
        assert await workspace.sh("stat -c '%a %U' /configs/.auth_token") == "600 agent"


async def test_a_workspace_that_follows_the_account_of_another(
    image: str, model: ResponsesServer, platform: FakePlatform
) -> None:
    """B-24, B-25: it only fetches, before codex starts and then again and again; it never refreshes."""
    given, later, latest = (
        document(number, age=age) for number, age in ((1, 8 * DAY), (2, 2 * DAY), (3, DAY))
    )
    platform.secret_values = {"CODEX_AUTH_JSON": json.dumps(later)}
    platform.switches.org_id = "org-1"
    env = {
        "CODEX_AUTH_REFRESH_OWNER": "0",
        "CODEX_AUTH_SYNC_INTERVAL_SECONDS": "1",
        "CODEX_CHATGPT_AUTH_JSON": json.dumps(given),
        "MOLECULE_ORG_ID": "org-1",
    }
    async with (
        token_endpoint(image) as endpoint,
        WorkspaceContainer(
            image,
            "name: Follower\n",
            env={**OVERRIDE, **env},
            files={".auth_token": platform.issue_token()},
            home_files=home(model),
            platform=platform,
            network=endpoint.name,
        ) as workspace,
    ):
        story = await workspace.says("registered with the platform")
        assert "OAuth: follower" in story
        assert story.index("auth.synced") < story.index("codex.started")
        assert await watchdog(workspace) == set()
        # A codex that the agent starts by itself must not refresh either.
        model.script(Call("exec_command", {"cmd": "env"}), Answer.text("Hello."))
        assert await workspace.answer("hello") == "Hello."
        (output,) = model.requests[1].tool_outputs.values()
        assert re.search(r"CODEX_REFRESH_TOKEN_URL_OVERRIDE=http://127\.0\.0\.1:\d+/follower", str(output))
        assert await endpoint.asked() == 0
        assert "rt-secret" not in await workspace.sh(f"cat {AUTH}")
        assert model.requests[0].headers["authorization"] == f"Bearer {later['tokens']['access_token']}"

        def expired(request: Request) -> Step:
            is_latest = request.headers["authorization"] == f"Bearer {latest['tokens']['access_token']}"
            return Answer.text("Here.") if is_latest else HttpError(401, "expired")

        platform.secret_values = {"CODEX_AUTH_JSON": json.dumps(latest)}

        async def fetched() -> bool:
            return bool((await installed(workspace, "auth.json.withheld")) == latest["tokens"])

        await until(fetched, "it fetches what its owner has refreshed")
        # codex has the older ones in memory, and looks at the file when they are refused.
        model.responder = expired
        assert await workspace.answer("and now?") == "Here."
        assert await endpoint.asked() == 0
    assert {call.status for call in platform.calls_to("secrets")} == {200}
