"""The image with the `config.yaml` that the platform writes: ready, or with the reason that people need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.codex_workbench import API_KEY
from support.platform_config import BROKEN, FORMS, ODD
from support.workspace_container import WorkspaceContainer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def workspace(image: str) -> AsyncIterator[WorkspaceContainer]:
    """One that starts again with each file; a person has chosen its model in the platform's editor."""
    env = {"OPENAI_API_KEY": API_KEY, "MODEL": "gpt-5.4-mini", "MOLECULE_MODEL": "gpt-5.4-mini"}
    async with WorkspaceContainer(image, FORMS["created"], env=env) as running:
        yield running


@pytest.mark.parametrize("form", [*FORMS, "odd"])
async def test_what_the_platform_writes_is_ready_with_the_model_that_was_chosen(
    workspace: WorkspaceContainer, form: str
) -> None:
    await workspace.put("/configs", {"config.yaml": FORMS.get(form, ODD)}, owner=0)
    await workspace.restart()
    assert (await workspace.http.get("/readyz")).json() == {"ready": True}
    story = (await workspace.logs()).rpartition("[start] workspace ")[2]
    assert "model=gpt-5.4-mini" in story
    assert "provider=openai-api" in story
    assert "is set; set one" not in story, "the key was handed over in memory"


async def test_a_text_with_a_colon_is_served_as_the_reason(workspace: WorkspaceContainer) -> None:
    await workspace.put("/configs", {"config.yaml": BROKEN}, owner=0)
    await workspace.restart()
    ready = await workspace.http.get("/readyz")
    assert ready.status_code == 503
    assert "/configs/config.yaml: line 2, column 23 is not YAML" in ready.json()["reason"]
    card = (await workspace.http.get("/.well-known/agent-card.json")).json()
    assert card["name"] == "OpenAI Codex CLI"


async def test_a_prompt_that_is_no_text_is_served_as_the_reason(workspace: WorkspaceContainer) -> None:
    text = FORMS["created"] + "prompt_files: [persona.md]\n"
    await workspace.put("/configs", {"config.yaml": text}, owner=0)
    await workspace.sh("printf 'Sei h\\366flich.' > /configs/persona.md", user="root")
    await workspace.restart()
    ready = await workspace.http.get("/readyz")
    assert ready.status_code == 503
    assert "/configs/persona.md is not UTF-8 text (byte 5)" in ready.json()["reason"]
