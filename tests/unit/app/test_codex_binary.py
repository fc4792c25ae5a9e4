from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codex_binary import CodexNotFoundError, find_codex

if TYPE_CHECKING:
    from pathlib import Path

_TARGETS = {
    "x86_64": ("codex-linux-x64", "x86_64-unknown-linux-musl"),
    "aarch64": ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
}


def executable(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def installed(root: Path) -> Path:
    """An npm installation: the script of the package, and `codex` on PATH as a link to it."""
    script = executable(root / "lib/node_modules/@openai/codex/bin/codex.js", b"#!/usr/bin/env node\n")
    (root / "bin").mkdir()
    (root / "bin/codex").symlink_to(script)
    return script


@pytest.mark.parametrize("machine", sorted(_TARGETS))
@pytest.mark.parametrize("place", ["node_modules/@openai/codex/node_modules", "node_modules"])
def test_the_script_of_the_npm_package_leads_to_its_native_binary(
    tmp_path: Path, machine: str, place: str
) -> None:
    installed(tmp_path)
    package, target = _TARGETS[machine]
    binary = executable(
        tmp_path / "lib" / place / "@openai" / package / "vendor" / target / "codex/codex", b"\x7fELF"
    )
    assert find_codex(path=str(tmp_path / "bin"), machine=machine) == binary


def test_a_native_executable_is_taken_as_it_is(tmp_path: Path) -> None:
    binary = executable(tmp_path / "bin/codex", b"\x7fELF...")
    assert find_codex(path=str(tmp_path / "bin")) == binary
    assert find_codex(str(binary), path="") == binary


def test_an_executable_that_cannot_be_read_is_a_native_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = executable(tmp_path / "bin/codex", b"\x7fELF...")

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("codex_binary.Path.open", refuse)
    assert find_codex(str(binary), path="") == binary


def test_what_is_not_on_path_is_named_together_with_path(tmp_path: Path) -> None:
    with pytest.raises(CodexNotFoundError, match=rf"'codex' is not an executable on PATH \({tmp_path}\)"):
        find_codex(path=str(tmp_path))


def test_a_missing_platform_package_is_an_error_that_names_every_place(tmp_path: Path) -> None:
    installed(tmp_path)
    with pytest.raises(CodexNotFoundError) as error:
        find_codex(path=str(tmp_path / "bin"), machine="x86_64")
    assert "lib/node_modules/@openai/codex/node_modules/@openai/codex-linux-x64/vendor" in str(error.value)
    assert "lib/node_modules/@openai/codex-linux-x64/vendor" in str(error.value)


def test_a_machine_without_a_binary_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    installed(tmp_path)
    with pytest.raises(CodexNotFoundError, match="no codex binary for riscv64; supported: aarch64, x86_64"):
        find_codex(path=str(tmp_path / "bin"), machine="riscv64")
