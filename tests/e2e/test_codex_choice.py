"""What the workspace has chosen is what the real codex runs, whatever stands in its config.toml."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from codex_setup import Prepared, configure
from support.codex_workbench import API_KEY, Workbench
from support.predecessor_toml import FORMS
from support.responses_server import Answer, ResponsesServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

CONFIG = """\
runtime_config: {{provider: chosen}}
providers:
  - {{name: chosen, auth_mode: openai_compat_responses, base_url: "{base_url}", auth_env: [CHOSEN_KEY]}}
"""
OTHER = """
[model_providers.other]
name = "other"
base_url = "{base_url}"
env_key = "OTHER_KEY"
request_max_retries = 0
stream_max_retries = 0
"""
BY_HAND = {
    "model_provider": 'model_provider = "other"\nmodel = "other-model"\n',
    "profile": 'profile = "x"\n[profiles.x]\nmodel_provider = "other"\nmodel = "other-model"\n',
    "profile of nobody": 'profile = "missing"\n',
    "openai": '[model_providers.openai]\nname = "e"\nbase_url = "http://127.0.0.1:9"\n',
    **FORMS,
}


@pytest.fixture
async def other(codex: Path) -> AsyncIterator[ResponsesServer]:
    """An endpoint that must not be asked for anything."""
    async with ResponsesServer() as server:
        yield server
        server.check()
        assert server.requests == []


def prepared(directory: Path, base_url: str, own: str) -> Prepared:
    """The chosen provider is `base_url`; `own` is the config.toml that was there before."""
    (directory / "config.yaml").write_text(CONFIG.format(base_url=base_url))
    home = directory / "home" / ".codex"
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(own)
    return configure({"CHOSEN_KEY": API_KEY}, directory, home=home)


def workbench(directory: Path, ready: Prepared) -> Workbench:
    keys = {"CHOSEN_KEY": API_KEY, "OTHER_KEY": "other-key"}
    return Workbench(directory, "", env=keys, model_provider="chosen", endpoint=ready.endpoint)


@pytest.mark.parametrize("name", BY_HAND)
async def test_what_was_there_before_the_boot_changes_nothing(
    tmp_path: Path, model: ResponsesServer, other: ResponsesServer, name: str
) -> None:
    """B-13: the log named one provider, and the messages went to another."""
    own = BY_HAND[name] + OTHER.format(base_url=other.base_url)
    model.script(Answer.text("Here."))
    async with workbench(tmp_path, prepared(tmp_path, model.base_url, own)) as bench:
        assert await bench.send("where?").completed() == "Here."
    assert model.requests[0].body["model"] == "gpt-5.5"


@pytest.mark.parametrize("name", ["model_provider", "profile"])
async def test_what_was_written_after_the_boot_changes_nothing_either(
    tmp_path: Path, model: ResponsesServer, other: ResponsesServer, name: str
) -> None:
    """codex reads config.toml anew with each thread."""
    ready = prepared(tmp_path, model.base_url, "")
    toml = ready.home / "config.toml"
    top, _, tables = toml.read_text().partition("\n[")
    kept = [line for line in top.splitlines() if not line.startswith("model")]
    own, _, profiles = BY_HAND[name].partition("[")
    model.script(Answer.text("Here."))
    async with workbench(tmp_path, ready) as bench:
        text = own + "\n".join(kept) + f"\n[{tables}" + OTHER.format(base_url=other.base_url)
        toml.write_text(text + (f"[{profiles}" if profiles else ""))
        assert await bench.send("where?").completed() == "Here."
    assert model.requests[0].body["model"] == "gpt-5.5"


async def test_a_conversation_that_was_begun_elsewhere_is_continued_on_the_chosen_provider(
    tmp_path: Path, model: ResponsesServer, codex: Path
) -> None:
    """codex resumes a thread on whatever its configuration says now, and not where it was begun."""
    async with ResponsesServer() as before:
        before.script(Answer.text("There."))
        async with workbench(tmp_path, prepared(tmp_path, before.base_url, "")) as bench:
            assert await bench.send("where?").completed() == "There."
        own = BY_HAND["profile"] + OTHER.format(base_url=before.base_url)
        model.script(Answer.text("Here."))
        async with workbench(tmp_path, prepared(tmp_path, model.base_url, own)) as bench:
            assert await bench.send("and now?").completed() == "Here."
        assert len(before.requests) == 1
    assert "There." in json.dumps(model.requests[0].body)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ('base_url = "{chosen}"', 'base_url = "{other}"'),
        ('env_key = "CHOSEN_KEY"', 'env_key = "OTHER_KEY"'),
        ("requires_openai_auth = false", "requires_openai_auth = true"),
    ],
)
async def test_another_address_fails_the_message_before_a_credential_has_left(
    tmp_path: Path, model: ResponsesServer, other: ResponsesServer, line: str, changed: str
) -> None:
    ready = prepared(tmp_path, model.base_url, "")
    toml = ready.home / "config.toml"
    addresses = {"chosen": model.base_url, "other": other.base_url}
    before = toml.read_text()
    assert line.format(**addresses) in before
    async with workbench(tmp_path, ready) as bench:
        toml.write_text(before.replace(line.format(**addresses), changed.format(**addresses)))
        sent = bench.send("where?")
        reason = await sent.failed()
        assert sent.failure == "configuration"
        assert f"model_providers.chosen.{line.partition(' ')[0]}" in reason
        assert "Restart the workspace" in reason
        # As after that restart.
        prepared(tmp_path, model.base_url, toml.read_text())
        assert toml.read_text() == before
        model.script(Answer.text("Here."))
        assert await bench.send("and now?").completed() == "Here."
    assert len(model.requests) == 1


async def test_a_key_of_openai_goes_to_no_address_that_was_written_after_the_boot(
    tmp_path: Path, other: ResponsesServer
) -> None:
    home = tmp_path / "home" / ".codex"
    home.mkdir(parents=True)
    ready = configure({"OPENAI_API_KEY": API_KEY}, tmp_path, home=home)
    bench = Workbench(tmp_path, "", api_key=API_KEY, model_provider="openai", endpoint=ready.endpoint)
    async with bench:
        toml = home / "config.toml"
        toml.write_text(f'openai_base_url = "{other.base_url}"\n' + toml.read_text())
        sent = bench.send("where?")
        reason = await sent.failed()
        assert sent.failure == "configuration"
        assert "for openai_base_url, and the workspace has chosen nothing" in reason
