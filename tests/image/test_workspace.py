"""The image as a workspace: the real codex, a stand-in for the model, A2A clients of others."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from a2a.types import CancelTaskRequest, Part, TaskState

from support.codex_workbench import API_KEY, PATIENCE
from support.responses_server import Answer, Call, Cut, Gate, HttpError, ResponsesServer, Silence, Step
from support.workspace_container import CONFIG, WorkspaceContainer, docker, send, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

DIALECTS = pytest.mark.parametrize("version", ["1.0", "0.3"])
OTHER_SECRETS = {"OPENAI_API_KEY": "sk-not-for-this-one", "GIT_HTTP_PASSWORD": "the-git-password"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
async def workspace(image: str, standin: ResponsesServer) -> AsyncIterator[WorkspaceContainer]:
    """One workspace for all tests here: its conversation goes on from test to test."""
    config = CONFIG.format(base_url=standin.base_url)
    async with WorkspaceContainer(image, config, env=OTHER_SECRETS) as running:
        yield running


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def message_03(text: str) -> dict[str, Any]:
    return {"message": {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": text}]}}


def events(stream: str) -> list[dict[str, Any]]:
    lines = [line for line in stream.splitlines() if line.startswith("data:")]
    return [json.loads(line.removeprefix("data:"))["result"] for line in lines]


async def test_each_dialect_has_its_own_card(workspace: WorkspaceContainer) -> None:
    old = json.loads(await workspace.curl("/.well-known/agent.json"))
    new = json.loads(await workspace.curl("/.well-known/agent-card.json", "--header", "A2A-Version: 1.0"))
    assert (old["name"], new["name"]) == ("Test workspace", "Test workspace")
    assert (old["protocolVersion"], old["url"]) == ("0.3", f"{workspace.url}/")
    assert "url" not in new
    assert {(each["url"], each["protocolVersion"]) for each in new["supportedInterfaces"]} == {
        (f"{workspace.url}/", "1.0"),
        (f"{workspace.url}/", "0.3"),
    }


@DIALECTS
async def test_a_delta_reaches_the_client_while_the_model_still_speaks(
    workspace: WorkspaceContainer, model: ResponsesServer, version: str
) -> None:
    gate = Gate()
    model.script(Answer(["One", gate, " two."]))
    sent = send(await workspace.client(version), "count")
    await sent.until(lambda s: s.text == "One")
    gate.open()
    assert await sent.completed() == "One two."
    assert model.requests[0].last_user_text == "count"


async def test_curl_sends_and_streams_in_the_old_dialect(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    model.script(Answer.text("Hello."), Answer(["Hello", " again."]))
    task = json.loads(await workspace.curl(body=rpc("message/send", message_03("hello"))))["result"]
    assert (task["status"]["state"], task["artifacts"][0]["parts"][0]["text"]) == ("completed", "Hello.")
    stored = json.loads(await workspace.curl(body=rpc("tasks/get", {"id": task["id"]})))["result"]
    assert stored["status"] == task["status"]

    streamed = events(
        await workspace.curl("/", "--no-buffer", body=rpc("message/stream", message_03("again")))
    )
    assert [event["kind"] for event in streamed if event["kind"] != "status-update"][:2] == [
        "task",
        "artifact-update",
    ]
    assert (streamed[-1]["status"]["state"], streamed[-1]["final"]) == ("completed", True)


async def test_curl_sends_and_streams_in_the_new_dialect(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    model.script(Answer.text("Hello."), Answer.text("Hello again."))
    version = ("--header", "A2A-Version: 1.0")
    message = {"message": {"role": "ROLE_USER", "messageId": "m", "parts": [{"text": "hello"}]}}
    done = json.loads(await workspace.curl("/", *version, body=rpc("SendMessage", message)))
    task = done["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][0]["parts"][0]["text"] == "Hello."
    streamed = events(await workspace.curl("/", *version, body=rpc("SendStreamingMessage", message)))
    assert "task" in streamed[0]
    assert any("artifactUpdate" in event for event in streamed)
    assert streamed[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


@DIALECTS
async def test_a_cancel_interrupts_the_model_and_the_next_message_is_answered(
    workspace: WorkspaceContainer, model: ResponsesServer, version: str
) -> None:
    silence = Silence()
    model.script(silence, Answer.text("Here."))
    client = await workspace.client(version)
    sent = send(client, "hang")
    await reached(silence)
    await client.cancel_task(CancelTaskRequest(id=sent.task_id))
    assert (await sent.ended()).state == TaskState.TASK_STATE_CANCELED
    assert await workspace.answer("are you there?", version) == "Here."


async def test_a_message_in_the_middle_of_a_turn_is_steered_into_it_and_gets_its_own_answer(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    gate = Gate()
    model.script(Answer(["Answer to", gate, " one."]), Answer.text("Answer to two."))
    one = send(await workspace.client("0.3"), "one")
    await one.until(lambda s: s.text == "Answer to")
    two = send(await workspace.client("1.0"), "two")
    await two.until(lambda s: bool(s.states))
    gate.open()
    assert await one.completed() == "Answer to one."
    assert await two.completed() == "Answer to two."
    assert model.requests[1].texts[-3:] == [
        ("user", "one"),
        ("assistant", "Answer to one."),
        ("user", "two"),
    ]
    turns = {json.loads(each.headers["x-codex-turn-metadata"])["turn_id"] for each in model.requests}
    assert len(turns) == 1


@DIALECTS
async def test_a_message_of_one_file_reaches_the_model_as_a_path_that_the_agent_can_read(
    workspace: WorkspaceContainer, model: ResponsesServer, version: str
) -> None:
    model.script(Answer.text("Read."))
    part = Part(raw=b"what the file holds", filename="notes.txt", media_type="text/plain")
    assert await send(await workspace.client(version), parts=[part]).completed() == "Read."
    text = model.requests[0].last_user_text
    assert text.startswith("Attached files:\n- notes.txt (text/plain) at /workspace/.molecule/inbox/")
    path = text.rpartition(" at ")[2]
    assert await workspace.sh(f"cat '{path}'", user="agent") == "what the file holds"


async def test_an_image_is_shown_to_the_model(workspace: WorkspaceContainer, model: ResponsesServer) -> None:
    model.script(Answer.text("A pixel."))
    part = Part(raw=PIXEL, filename="pixel.png", media_type="image/png")
    assert await send(await workspace.client(), parts=[part]).completed() == "A pixel."
    content = [part for item in model.requests[0].body["input"] for part in item.get("content") or ()]
    assert [part["type"] for part in content].count("input_image") == 1


async def test_a_path_outside_the_workspace_is_refused_and_never_read(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    await workspace.sh("ln -sf /etc/shadow /workspace/link", user="agent")
    client = await workspace.client()
    for outside in ("file:///etc/passwd", "workspace:/workspace/../etc/passwd", "workspace:/workspace/link"):
        reason = await send(client, "look", [Part(url=outside, media_type="text/plain")]).failed()
        assert "outside" in reason
    assert model.requests == []


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (HttpError(401, "Incorrect API key provided"), "refused the credential"),
        (HttpError(429, "slow down"), "Too many requests"),
        (HttpError(500, "boom"), "overloaded"),
        (Cut("Half an ans"), "network connection to the model endpoint failed"),
    ],
    ids=["401", "429", "500", "cut"],
)
async def test_a_failure_of_the_model_is_a_failed_task_in_plain_words_and_the_next_message_works(
    workspace: WorkspaceContainer, model: ResponsesServer, step: Step, words: str
) -> None:
    model.script(step, Answer.text("Well again."))
    reason = await send(await workspace.client(), "hello").failed()
    assert words in reason
    assert API_KEY not in reason
    assert await workspace.answer("again") == "Well again."


async def test_killing_only_codex_fails_its_turn_and_keeps_the_conversation(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(Answer.text("Noted."), silence, Answer.text("Blue."))
    await workspace.answer("my colour is blue")
    hanging = send(await workspace.client(), "hang")
    await reached(silence)
    await workspace.kill_codex()
    assert "codex process was lost" in await hanging.failed()
    assert await workspace.answer("which colour?") == "Blue."
    assert model.requests[2].user_texts[-3:] == ["my colour is blue", "hang", "which colour?"]


async def test_a_killed_container_goes_on_with_the_conversation_when_it_is_started_again(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    silence = Silence()
    model.script(Answer.text("Noted."), silence, Answer.text("Green."))
    await workspace.answer("my colour is green")
    hanging = asyncio.create_task(workspace.http.post("/", json=rpc("message/send", message_03("hang"))))
    await reached(silence)
    await docker("kill", "--signal=KILL", workspace.name)
    with pytest.raises(httpx.TransportError):
        await hanging
    await workspace.start()
    assert await workspace.answer("which colour?") == "Green."
    assert model.requests[2].user_texts[-3:] == ["my colour is green", "hang", "which colour?"]


async def test_a_new_container_on_the_same_volumes_goes_on_with_the_conversation(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    model.script(Answer.text("Noted."), Answer.text("Red."))
    await workspace.answer("my colour is red")
    await workspace.recreate()
    assert await workspace.answer("which colour?") == "Red."
    assert model.requests[1].user_texts[-2:] == ["my colour is red", "which colour?"]


async def test_the_runtime_is_the_first_process_and_nothing_runs_as_root(
    workspace: WorkspaceContainer,
) -> None:
    assert "molecule-runtime" in await workspace.sh("tr '\\0' ' ' </proc/1/cmdline")
    assert await workspace.sh("cat /proc/1/comm") != "gosu"
    processes = await workspace.processes()
    assert any("app-server" in arguments for _, arguments in processes)
    assert {uid for uid, _ in processes} == {1000}


async def test_what_the_agent_leaves_behind_does_not_stay_as_a_dead_process(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    """The MCP server of a killed codex and a command's daemon both end as children of the runtime."""
    server = "until [ -e /tmp/end ]; do sleep 0.1; done"
    model.script(
        Call("exec_command", {"cmd": f"setsid sh -c '{server}' >/dev/null 2>&1 </dev/null & exit 0"}),
        Answer.text("Started."),
    )
    assert await workspace.answer("start a server") == "Started."
    await workspace.kill_codex()
    await workspace.sh("touch /tmp/end", user="agent")

    async def left_behind() -> bool:
        return {"python3", "sh"} <= set(await workspace.dead())

    async def gone() -> bool:
        return not await workspace.dead()

    await until(left_behind, "both end as children of the first process")
    await until(gone, "the first process takes leave of them")
    model.script(Answer.text("Here."))
    assert await workspace.answer("are you there?") == "Here."


async def test_the_models_commands_see_no_credential(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    model.script(Call("exec_command", {"cmd": "env"}), Answer.text("Done."))
    assert await workspace.answer("run env") == "Done."
    (*_, output) = model.requests[1].tool_outputs.values()
    assert "HOME=/home/agent" in str(output)
    assert API_KEY not in str(output)
    assert OTHER_SECRETS["OPENAI_API_KEY"] not in str(output)


async def test_no_secret_and_no_prompt_is_found_in_logs_metrics_or_command_lines(
    workspace: WorkspaceContainer, model: ResponsesServer
) -> None:
    model.script(Answer.text("An answer nobody else may read."))
    await workspace.answer("a prompt that nobody else may read")
    metrics = await workspace.curl("/metrics")
    assert 'molecule_turns_total{outcome="completed"}' in metrics
    cards = [await workspace.curl(path) for path in ("/.well-known/agent-card.json", "/readyz")]
    lines = "\n".join(arguments for _, arguments in await workspace.processes())
    for shown in (metrics, *cards, lines, await workspace.logs()):
        assert shown
        for secret in (API_KEY, *OTHER_SECRETS.values(), "nobody else may read"):
            assert secret not in shown


async def test_the_probes_and_the_engine_find_it_well(workspace: WorkspaceContainer) -> None:
    assert json.loads(await workspace.curl("/healthz")) == {"status": "alive"}
    assert json.loads(await workspace.curl("/readyz", "--fail")) == {"ready": True}
    await healthy(workspace)


@pytest.mark.parametrize(
    "a2a",
    [
        "a2a:\n  port: 8123\n",
        "a2a: {port: 8123}\n",
        "'a2a':\n    # beside the platform's\n    port: '8123'\n",
    ],
)
async def test_the_health_check_follows_the_workspaces_own_port(
    image: str, standin: ResponsesServer, a2a: str
) -> None:
    config = CONFIG.format(base_url=standin.base_url) + a2a
    async with WorkspaceContainer(image, config, port=8123) as workspace:
        await healthy(workspace)


async def healthy(workspace: WorkspaceContainer) -> None:
    async def is_healthy() -> bool:
        return bool((await workspace.state())["Health"]["Status"] == "healthy")

    await until(is_healthy, "the engine finds the workspace healthy")


async def reached(silence: Silence) -> None:
    async with asyncio.timeout(PATIENCE):
        await silence.reached.reached()
