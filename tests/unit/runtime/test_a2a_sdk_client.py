"""The SDK's own client against the workspace: what a public A2A client sees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.compat.v0_3 import types as types_v03
from a2a.helpers import new_text_message
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
)
from google.protobuf import json_format  # type: ignore[import-untyped]  # protobuf ships no types
from starlette.applications import Starlette

from molecule_runtime.cards import CardRoutes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from a2a.client import Client

    from unit.runtime.conftest import LiveWorkspace

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["1.0", "0.3"])
async def client(live: LiveWorkspace, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client that was shown the card of one dialect only, and so speaks that one."""
    async with httpx.AsyncClient(timeout=20) as http:
        config = ClientConfig(httpx_client=http, streaming=True)
        headers = {"A2A-Version": request.param}
        yield await ClientFactory(config).create_from_url(live.url, resolver_http_kwargs={"headers": headers})


def ask(text: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


def text_of(event: StreamResponse) -> str:
    return "".join(part.text for part in event.artifact_update.artifact.parts)


async def test_the_client_streams_a_message_to_its_end(live: LiveWorkspace, client: Client) -> None:
    said, last = "", TaskState.TASK_STATE_UNSPECIFIED
    async for event in client.send_message(ask("say:hello gate:g say:_world")):
        said += text_of(event)
        last = event.status_update.status.state or last
        if said == "hello":
            live.executor.gates["g"].set()
    assert said == "hello world"
    assert last == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_the_kit_reads_an_answer_that_tells_its_usage(live: LiveWorkspace, version: str) -> None:
    async with httpx.AsyncClient(timeout=20) as http:
        factory = ClientFactory(ClientConfig(httpx_client=http, streaming=False))
        headers = {"A2A-Version": version}
        client = await factory.create_from_url(live.url, resolver_http_kwargs={"headers": headers})
        (answer,) = [event async for event in client.send_message(ask("spend:1200,34 say:hello"))]
    assert answer.task.artifacts[0].parts[0].text == "hello"
    usage = json_format.MessageToDict(answer.task.metadata)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (1200, 34)


async def test_the_client_finds_its_task_again(client: Client) -> None:
    task_id = ""
    async for event in client.send_message(ask("say:hello")):
        task_id = event.task.id or task_id
    task = await client.get_task(GetTaskRequest(id=task_id))
    assert task.status.state == TaskState.TASK_STATE_COMPLETED
    assert task.artifacts[0].parts[0].text == "hello"


async def test_the_client_cancels_a_running_task(client: Client) -> None:
    states = []
    async for event in client.send_message(ask("gate:never")):
        if event.HasField("task"):
            await client.cancel_task(CancelTaskRequest(id=event.task.id))
        if event.HasField("status_update"):
            states.append(event.status_update.status.state)
    assert states[-1] == TaskState.TASK_STATE_CANCELED


async def test_the_client_subscribes_again(live: LiveWorkspace, client: Client) -> None:
    task_id = ""
    async for event in client.send_message(ask("say:a gate:g say:b")):
        task_id = event.task.id
        break
    await live.executor.reached["g"].wait()
    said = ""
    async for event in client.subscribe(SubscribeToTaskRequest(id=task_id)):
        live.executor.gates["g"].set()
        said += "".join(part.text for artifact in event.task.artifacts for part in artifact.parts) + text_of(
            event
        )
    assert said == "ab"


async def test_the_client_works_with_the_card_that_it_gets_without_saying_a_version(
    live: LiveWorkspace,
) -> None:
    async with httpx.AsyncClient(timeout=20) as http:
        client = await ClientFactory(ClientConfig(httpx_client=http)).create_from_url(live.url)
        said = "".join([text_of(event) async for event in client.send_message(ask("say:hello"))])
    assert said == "hello"


async def card(live: LiveWorkspace, path: str = "agent-card.json", version: str = "") -> dict[str, Any]:
    headers = {"A2A-Version": version} if version else {}
    response = await live.http.get(f"/.well-known/{path}", headers=headers)
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.text)
    return found


async def test_a_10_client_gets_a_card_with_the_fields_of_10_and_no_other(live: LiveWorkspace) -> None:
    """B-17: fields that 1.0 does not have crash strict clients, and crashed the construction itself."""
    found = await card(live, version="1.0")
    parsed = json_format.ParseDict(found, AgentCard(), ignore_unknown_fields=False)
    assert [(i.protocol_binding, i.protocol_version) for i in parsed.supported_interfaces] == [
        ("JSONRPC", "1.0"),
        ("JSONRPC", "0.3"),
    ]
    assert parsed.supported_interfaces[0].url == f"{live.url}/"


@pytest.mark.parametrize(("path", "version"), [("agent-card.json", "0.3"), ("agent.json", "")])
async def test_a_03_client_gets_the_fields_of_03_and_no_other(
    live: LiveWorkspace, path: str, version: str
) -> None:
    found = await card(live, path, version)
    parsed = types_v03.AgentCard.model_validate(found)
    allowed = {field.alias or name for name, field in types_v03.AgentCard.model_fields.items()}
    assert set(found) <= allowed
    assert (parsed.url, parsed.preferred_transport, parsed.protocol_version) == (
        f"{live.url}/",
        "JSONRPC",
        "0.3",
    )


async def test_a_client_that_says_no_version_gets_what_either_kit_needs(live: LiveWorkspace) -> None:
    both = await card(live)
    assert both.keys() - (await card(live, version="1.0")).keys() == {
        "url",
        "preferredTransport",
        "protocolVersion",
    }
    assert both["url"] == (await card(live, version="0.3"))["url"]


async def test_what_the_card_declares_is_what_is_implemented(live: LiveWorkspace) -> None:
    assert (await card(live))["capabilities"] == {"streaming": True, "pushNotifications": False}


async def test_the_cards_url_is_the_configured_one_where_there_is_one(live: LiveWorkspace) -> None:
    routes = CardRoutes(live.workspace.card, url_is_fixed=True).routes()
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://elsewhere") as http:
        found = (await http.get("/.well-known/agent-card.json")).json()
    assert found["url"] == "http://workspace:8000"
