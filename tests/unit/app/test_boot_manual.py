"""docs/boot.md says what the boot does: its exit codes, its lines, its variables."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

import entrypoint
from molecule_runtime import main as runtime
from support.watchdog import APP

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = APP.parents[1]
MANUAL = (ROOT / "docs/boot.md").read_text()
MODULES = ("entrypoint", "boot_owner", "boot_secrets", "agent_user", "inbound_bearer")
SPEAKERS = {"say", "BootError", "SecretsError", "AgentError", "BearerError"}


def messages() -> Iterator[tuple[str, ...]]:
    """The fixed parts of each line that the boot may say, as far as a value or a remark in them goes."""
    for module in MODULES:
        for node in ast.walk(ast.parse((APP / f"{module}.py").read_text())):
            text: ast.expr | None = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPEAKERS:
                text = node.args[0]
            elif module == "boot_owner" and isinstance(node, ast.JoinedStr):
                text = node
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            fixed = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
            words = tuple(re.split("[:;,(]", part.strip(" :,(){}'"))[0].strip() for part in fixed)
            if found := tuple(part for part in words if " " in part):
                yield found


@pytest.mark.parametrize("parts", sorted(set(messages())), ids=" ... ".join)
def test_every_line_is_in_the_manual(parts: tuple[str, ...]) -> None:
    assert any(part in MANUAL for part in parts)


def test_the_lines_are_found() -> None:
    found = {part for parts in messages() for part in parts}
    assert {"not root", "entries now belong to", "ends the shell that sources it"} <= found


def codes(module: object) -> set[int]:
    return {value for name, value in vars(module).items() if name.startswith("EXIT_")}


def test_every_exit_code_is_in_the_manual_and_no_other() -> None:
    section = MANUAL.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in section.splitlines() if re.match(r"\| \d", row)]
    told = {(int(code), of.strip()) for numbers, of in rows for code in numbers.split(",")}
    assert {code for code, of in told if of == "runtime"} == {0, *codes(runtime)}
    assert {code for code, of in told if of == "entry point"} == codes(entrypoint) | {128 + 2, 128 + 15}
    assert "exit 70" in (APP.parent / "bin/start.sh").read_text()


def test_every_variable_that_the_boot_reads_is_in_the_manual() -> None:
    for module in MODULES:
        source = (APP / f"{module}.py").read_text()
        for name in re.findall(r"env(?:ironment)?(?:\.get\(|\[)\"([A-Z_]{3,})\"", source):
            assert f"`{name}`" in MANUAL or name in ("PATH", "HOME"), name
