"""Who may talk to the workspace: bearers, and what a browser may not do."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from a2a.client import A2ACardResolver
from a2a.compat.v0_3.types import AgentCard as AgentCard03

from molecule_runtime import platform_auth
from molecule_runtime.access import Access, own_names
from molecule_runtime.cards import build_card
from molecule_runtime.config import WorkspaceConfig
from molecule_runtime.environment import Environment, EnvironmentVariableError
from unit.runtime.conftest import credential, live_workspace, message03, message10

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio

SECRET = "inbound-secret-of-the-platform"
TOKEN = "a-bearer-of-ones-own"
JSON = {"Content-Type": "application/json"}


def call(method: str = "message/send", params: Any = None) -> dict[str, Any]:
    params = message03("say:done") if params is None else params
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def status(live: LiveWorkspace, headers: dict[str, str], body: Any = None) -> int:
    """Of `POST /`; where it is refused, no turn was run."""
    before = len(live.executor.seen)
    response = await live.http.post("/", json=body or call(), headers=headers)
    assert (len(live.executor.seen) > before) == (response.status_code == 200 and body is None)
    return response.status_code


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[LiveWorkspace]:
    """A workspace that asks for a bearer and knows both kinds."""
    async with live_workspace(tmp_path, access=Access(required=True, own_token=TOKEN)) as running:
        platform_auth.save_inbound_secret(SECRET)
        yield running


# --- bearers ------------------------------------------------------------------------------------------------


STRANGERS = (
    "",
    "Bearer",
    "Bearer wrong",
    f"Basic {SECRET}",
    SECRET,
    f"Bearer {SECRET}x",
    f"Bearer {TOKEN[:-1]}",
)
CALLS: tuple[Any, ...] = (
    call(),
    call("message/stream"),
    call("tasks/get", {"id": "x"}),
    call("tasks/cancel", {"id": "x"}),
    call("tasks/resubscribe", {"id": "x"}),
    call("SendMessage", message10("say:done")),
    call("SubscribeToTask", {"id": "x"}),
    call("ListTasks", {}),
    call("no/such/method"),
    [],
)


async def test_a_stranger_is_told_nothing_but_that(closed: LiveWorkspace) -> None:
    for header, body in itertools.product(STRANGERS, CALLS):
        headers = {"Authorization": header} if header else {}
        response = await closed.http.post("/", json=body, headers=headers)
        assert (response.status_code, response.json()) == (401, {"error": "unauthorized"}), (header, body)
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert not closed.executor.seen


async def test_who_knows_a_bearer_is_answered(closed: LiveWorkspace) -> None:
    for known in (SECRET, TOKEN):
        assert await status(closed, bearer(known)) == 200
        assert (await closed.rpc("message/send", message03("say:hi"), **bearer(known)))["result"]


async def test_a_secret_that_the_platform_changes_counts_at_once(
    closed: LiveWorkspace, configs: Path
) -> None:
    platform_auth.save_inbound_secret("another-secret")
    assert await status(closed, bearer("another-secret")) == 200
    assert await status(closed, bearer(SECRET)) == 401
    (configs / ".platform_inbound_secret").write_text("a-third-secret")
    assert await status(closed, bearer("a-third-secret")) == 200
    assert await status(closed, bearer("another-secret")) == 401


async def test_while_no_secret_is_known_nobody_comes_in(tmp_path: Path) -> None:
    async with live_workspace(tmp_path, access=Access(required=True)) as running:
        for header in ("Bearer None", "Bearer"):
            assert await status(running, {"Authorization": header}) == 401


async def test_a_workspace_that_is_not_configured_asks_too(tmp_path: Path) -> None:
    async with live_workspace(
        tmp_path, access=Access(required=True, own_token=TOKEN), configured=False
    ) as running:
        assert (await running.http.post("/", json=call())).status_code == 401
        assert (await running.http.post("/", json=call(), headers=bearer(TOKEN))).status_code == 503


async def test_probes_and_cards_are_for_everybody(closed: LiveWorkspace) -> None:
    for path in ("/healthz", "/readyz", "/.well-known/agent-card.json", "/.well-known/agent.json"):
        assert (await closed.http.get(path, headers={"Origin": "https://x.example"})).status_code == 200


async def test_the_cards_say_that_a_bearer_is_asked_for(tmp_path: Path) -> None:
    config = WorkspaceConfig()
    card = build_card(config, "http://workspace:8000", ["text/plain"], bearer=True)
    async with live_workspace(tmp_path, access=Access(required=True), card=card) as running:
        old = (await running.http.get("/.well-known/agent.json")).json()
        new = (await running.http.get("/.well-known/agent-card.json", headers={"A2A-Version": "1.0"})).json()
        read = await A2ACardResolver(running.http, running.url).get_agent_card()
    assert old["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert old["securitySchemes"]["bearer"]["type"] == "http"
    assert old["security"] == [{"bearer": []}]
    assert AgentCard03.model_validate(old).security == [{"bearer": []}]
    assert new["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "bearer"
    assert [list(each["schemes"]) for each in new["securityRequirements"]] == [["bearer"]]
    assert read.security_schemes["bearer"].http_auth_security_scheme.scheme == "bearer"


async def test_an_open_workspace_declares_nothing(live: LiveWorkspace) -> None:
    card = (await live.http.get("/.well-known/agent-card.json")).json()
    assert not {"security", "securitySchemes", "securityRequirements"} & set(card)


@pytest.mark.parametrize("required", [True, False])
async def test_the_platform_sees_whether_it_may_let_everybody_ask(tmp_path: Path, required: bool) -> None:
    async with live_workspace(tmp_path, access=Access(required=required)) as running:
        path = "/internal/a2a-auth-status"
        assert (await running.http.get(path)).status_code == 401
        platform_auth.save_inbound_secret(SECRET)
        assert (await running.http.get(path, headers=bearer("wrong"))).status_code == 401
        told = (await running.http.get(path, headers=bearer(SECRET))).json()
    assert re.fullmatch(r"\d+\.\d+\S*", told.pop("runtime_version"))
    assert told == {"require_auth": required, "inbound_secret_present": True, "ready_to_enforce": True}


async def test_all_tasks_together_are_told_to_nobody_without_a_credential(live: LiveWorkspace) -> None:
    await live.send("say:between_us")
    body = call("ListTasks", {})
    v10 = {"A2A-Version": "1.0"}
    for header in ({}, bearer("wrong")):
        response = await live.http.post("/", json=body, headers=v10 | header)
        assert (response.status_code, response.json()) == (401, {"error": "unauthorized"})
    platform_auth.save_inbound_secret(SECRET)
    for header in (credential(), bearer(SECRET)):
        assert len((await live.rpc("ListTasks", {}, A2A_Version="1.0", **header))["result"]["tasks"]) == 1


# --- browsers -----------------------------------------------------------------------------------------------


FROM_BROWSERS: tuple[tuple[dict[str, str], int], ...] = (
    ({}, 200),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": ""}, 403),
    ({"Origin": "http://localhost:3000", "Host": "localhost:8000"}, 403),
    ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200),
    ({"Origin": "HTTPS://LOCALHOST:8000", "Host": "localhost:8000"}, 200),
    ({"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Origin": "http://rebind.evil.example:8000", "Host": "rebind.evil.example:8000"}, 403),
    ({"Sec-Fetch-Site": "same-origin", "Host": "rebind.evil.example"}, 403),
    ({"Host": "rebind.evil.example"}, 403),
    ({"Host": "rebind.evil.example."}, 403),
    ({"Host": "evil.localhost.example:8000"}, 403),
    ({"Host": "user@localhost"}, 403),
    ({"Host": "localhost:8000/x"}, 403),
    ({"Host": "[::1"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "nonsense"}, 403),
    ({"Sec-Fetch-Site": "none"}, 200),
    ({"Sec-Fetch-Mode": "cors", "User-Agent": "node"}, 200),
    ({"Host": "localhost:8000"}, 200),
    ({"Host": "LocalHost"}, 200),
    ({"Host": "10.1.2.3:8000"}, 200),
    ({"Host": "[::1]:8000"}, 200),
    ({"Host": "ws-5f3a9c"}, 200),
    ({"Host": "host.docker.internal:8000"}, 200),
    ({"Host": "ip-10-0-0-7.eu-west-1.compute.internal"}, 200),
    ({"Host": "workspace.agents.svc.cluster.local:8000"}, 200),
    ({"Host": "workspace.agents.svc"}, 200),
    ({"Host": "raspberry.local"}, 200),
    ({"Host": "workspace.company.example"}, 200),
    ({"Host": "named.example:8000"}, 200),
    ({"Origin": "https://pages.example"}, 200),
    ({"Origin": "https://pages.example", "Sec-Fetch-Site": "cross-site"}, 200),
    ({"Origin": "https://pages.example.evil"}, 403),
    ({"Origin": "https://workspace.company.example", "Host": "workspace.company.example"}, 200),
)  # fmt: skip


async def test_a_page_is_no_way_in(tmp_path: Path) -> None:
    hosts = own_names(["https://workspace.company.example/"], ["named.example"], tmp_path / "no file")
    access = Access(origins=frozenset({"https://pages.example"}), hosts=hosts)
    async with live_workspace(tmp_path, access=access) as running:
        for headers, expected in FROM_BROWSERS:
            assert await status(running, headers) == expected, headers


KINDS = (
    ("application/json", 200),
    ("application/json; charset=utf-8", 200),
    ("Application/JSON", 200),
    ("application/a2a+json", 200),
    ("application/vnd.a2a.v1+json;x=y", 200),
    ("text/plain", 415),
    ("text/plain; application/json", 415),
    ("application/x-www-form-urlencoded", 415),
    ("multipart/form-data; boundary=x", 415),
    ("application/jsonx", 415),
    ("application/+json", 415),
    ("text/json", 415),
    ("", 415),
    (None, 415),
    ("text/" + "x" * 5000, 415),
)


async def test_a_message_is_declared_as_json_which_no_form_can(live: LiveWorkspace) -> None:
    content = httpx.Request("POST", live.url, json=call()).content
    for kind, expected in KINDS:
        live.executor.seen.clear()
        headers = {} if kind is None else {"Content-Type": kind}
        response = await live.http.post("/", content=content, headers=headers)
        assert response.status_code == expected, kind
        assert bool(live.executor.seen) == (expected == 200)
        assert len(response.content) < 2000


async def test_no_other_route_serves_a_foreign_page(live: LiveWorkspace) -> None:
    paths = ("/transcript", "/metrics", "/internal/file/read?path=/x", "/no/such/route")
    foreign: tuple[dict[str, str], ...] = (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
    )
    for path, headers in itertools.product(paths, foreign):
        response = await live.http.get(path, headers=headers | credential())
        assert response.status_code == 403, (path, headers)
        assert "evil.example" in response.text or "another site" in response.text
    assert (await live.http.get("/metrics", headers={"Host": "scraped.company.example"})).status_code == 200


async def test_a_bearer_is_as_good_as_a_known_name_and_no_excuse_for_a_foreign_page(
    closed: LiveWorkspace,
) -> None:
    assert await status(closed, bearer(TOKEN) | {"Host": "behind.a.proxy.example"}) == 200
    assert await status(closed, bearer(TOKEN) | {"Origin": "https://evil.example"}) == 403
    assert await status(closed, {"Host": "behind.a.proxy.example"}) == 401


async def test_an_allowed_page_can_read_what_it_is_answered(tmp_path: Path) -> None:
    origin = {"Origin": "https://pages.example"}
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with live_workspace(tmp_path, access=Access(origins=frozenset({origin["Origin"]}))) as running:
        before = await running.http.options("/", headers=origin | asking)
        answer = await running.http.post("/", json=call(), headers=origin)
        other = await running.http.post("/", json=call(), headers={"Origin": "https://evil.example"})
    assert (before.status_code, answer.status_code, other.status_code) == (200, 200, 403)
    assert before.headers["access-control-allow-origin"] == origin["Origin"]
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]
    assert "access-control-allow-origin" not in other.headers


def test_the_zones_of_the_resolver_are_ours(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(
        "nameserver 10.0.0.10\nsearch agents.svc.cluster.local svc.cluster.local Corp.example.\n"
    )
    assert own_names([""], [], resolver) == {
        ".agents.svc.cluster.local",
        ".agents",
        ".svc.cluster.local",
        ".corp.example",
    }


# --- settings -----------------------------------------------------------------------------------------------

VARIABLES = {"WORKSPACE_ID": "ws", "PLATFORM_URL": "off"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("TRUE", True), (" yes ", True), ("on", True), ("0", False), ("no", False), ("", None)],
)
@pytest.mark.parametrize("platform", ["off", "http://platform:8080"])
def test_the_switch(value: str, expected: bool | None, platform: str) -> None:
    env = VARIABLES | {"MOLECULE_A2A_REQUIRE_AUTH": value, "PLATFORM_URL": platform}
    assert Environment.read(env).require_auth is expected


def test_a_typing_error_in_the_switch_opens_nothing_and_a_platform_may_say_what_it_likes() -> None:
    env = VARIABLES | {"MOLECULE_A2A_REQUIRE_AUTH": "ture"}
    with pytest.raises(EnvironmentVariableError, match="MOLECULE_A2A_REQUIRE_AUTH is 'ture': give 1"):
        Environment.read(env)
    assert Environment.read(env | {"PLATFORM_URL": "http://platform:8080"}).require_auth is None


def test_lists_of_origins_and_hosts() -> None:
    lists = {
        "CODEX_WORKSPACE_A2A_ORIGINS": "https://A.example,http://[::1]:3000 chrome-extension://abc",
        "CODEX_WORKSPACE_A2A_HOSTS": " Work.example ,other.example",
    }
    env = Environment.read(VARIABLES | lists)
    assert env.a2a_origins == {"https://a.example", "http://[::1]:3000", "chrome-extension://abc"}
    assert env.a2a_hosts == {"work.example", "other.example"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CODEX_WORKSPACE_A2A_ORIGINS", "*"),
        ("CODEX_WORKSPACE_A2A_ORIGINS", "a.example"),
        ("CODEX_WORKSPACE_A2A_ORIGINS", "https://a.example/path"),
        ("CODEX_WORKSPACE_A2A_HOSTS", "*"),
        ("CODEX_WORKSPACE_A2A_HOSTS", "https://a.example"),
        ("CODEX_WORKSPACE_A2A_HOSTS", "a.example:80"),
        ("CODEX_WORKSPACE_A2A_HOSTS", ".example"),
    ],
)
def test_what_is_no_origin_or_host_is_refused(name: str, value: str) -> None:
    with pytest.raises(
        EnvironmentVariableError, match=f"{name} holds {re.escape(repr(value))}: give values such"
    ):
        Environment.read(VARIABLES | {name: value})


def test_no_representation_shows_the_token() -> None:
    access = Access(own_token=TOKEN)
    assert TOKEN not in repr(access)
    assert dataclasses.replace(access, required=True).own_token == TOKEN
