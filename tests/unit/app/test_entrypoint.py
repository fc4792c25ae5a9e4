"""The boot as a process: what start.sh says, hands over, refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import stat
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.environment import platform_url
from support.watchdog import APP, auth_document, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.boot import Machine

SECRET = "sk-secret-value"
OTHER = "nobody" if os.geteuid() == 0 else ""
"""Somebody else than the user of the tests, who must be root to become it."""


def subscription(refresh_token: str = "rt-secret-given", **changes: object) -> str:
    return json.dumps({**auth_document(refresh_token=refresh_token), **changes})


# --- the story ----------------------------------------------------------------------------------------------


def test_the_log_tells_who_where_which_credential_by_name_and_which_codex(machine: Machine) -> None:
    boot = machine.run(OPENAI_API_KEY=SECRET, ADMIN_TOKEN=SECRET, GIT_HTTP_PASSWORD=SECRET)
    assert boot.code == 0, boot.log
    story = "\n".join(boot.lines)
    for words in (
        "workspace ws-1, platform off",
        f"uid {os.getuid()}, gid {os.getgid()}",
        "credentials: OPENAI_API_KEY",
        "kept from every process of the agent: ADMIN_TOKEN",
        f"codex: codex-cli 0.130.0 at {machine.codex}",
    ):
        assert words in story
    assert SECRET not in boot.log
    assert len(boot.lines) <= 12


def test_no_credential_is_said_and_the_runtime_starts_all_the_same(machine: Machine) -> None:
    boot = machine.run()
    assert "credentials: none in the environment" in boot.lines
    assert boot.code == 0
    assert "CODEX_WORKSPACE_CREDENTIALS_FD" not in machine.seen()["environment"]


def test_two_credentials_are_both_named(machine: Machine) -> None:
    boot = machine.run("true", OPENAI_API_KEY=SECRET, CODEX_AUTH_JSON=subscription())
    assert "credentials: CODEX_AUTH_JSON, OPENAI_API_KEY" in boot.lines


def test_a_providers_variable_in_the_workspaces_config_yaml_is_a_credential_too(machine: Machine) -> None:
    (machine.configs / "config.yaml").write_text("providers: [{name: mine, auth_env: [MY_LOGIN]}]\n")
    boot = machine.run(MY_LOGIN=SECRET)
    assert "credentials: MY_LOGIN" in boot.lines
    assert machine.seen()["given"]["MY_LOGIN"] == SECRET
    assert "MY_LOGIN" not in machine.seen()["environment"]


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "providers: 3\n", "\0", "[" * 5000, "providers: [{}]\n"])
def test_what_is_wrong_with_config_yaml_is_left_to_the_runtime_to_say(machine: Machine, text: str) -> None:
    (machine.configs / "config.yaml").write_text(text)
    boot = machine.run(OPENAI_API_KEY=SECRET)
    assert boot.code == 0
    assert "Traceback" not in boot.log


def test_a_password_in_the_platforms_url_is_not_shown(machine: Machine) -> None:
    boot = machine.run("true", PLATFORM_URL="https://user:pw-secret@platform.example/x")
    assert "workspace ws-1, platform https://platform.example/x" in boot.lines


@pytest.mark.parametrize("value", ["../up", "a\n[start] credentials: forged", "\udcff"])
def test_a_strange_workspace_id_is_one_line_and_left_to_the_runtime_to_refuse(
    machine: Machine, value: str
) -> None:
    boot = machine.run(WORKSPACE_ID=value)
    assert len([line for line in boot.lines if line.startswith("workspace ")]) == 1
    assert "credentials: forged" not in boot.lines
    assert os.fsencode(machine.seen()["environment"]["WORKSPACE_ID"]) == os.fsencode(value)


# --- handing over -------------------------------------------------------------------------------------------


def test_the_runtime_gets_the_credentials_once_and_has_none_in_its_environment(machine: Machine) -> None:
    given = {"OPENAI_API_KEY": SECRET, "CODEX_AUTH_JSON": subscription(), "CP_X": "c", "GH_TOKEN": "g"}
    process = machine.start(env=given)
    process.communicate(timeout=60)
    seen = machine.seen()
    assert seen["pid"] == process.pid, "the runtime has the process of the entry point, and so its signals"
    assert not {"OPENAI_API_KEY", "CODEX_AUTH_JSON", "CP_X"} & set(seen["environment"])
    assert given.items() <= seen["given"].items()
    assert seen["environment"]["GH_TOKEN"] == "g", "git's own stays where git looks for it"
    assert "CODEX_WORKSPACE_CREDENTIALS_FD" not in {**seen["given"], **seen["after"]}


def test_a_value_that_is_not_utf8_arrives_byte_for_byte(machine: Machine) -> None:
    assert machine.run(OPENAI_API_KEY="k\udcff\udc80").code == 0
    assert machine.seen()["given"]["OPENAI_API_KEY"] == "k\udcff\udc80"


def test_a_command_is_run_in_place_of_the_runtime_with_its_own_exit_code(machine: Machine) -> None:
    boot = machine.run("sh", "-c", 'echo "$0 $CODEX_HOME $OPENAI_API_KEY"; exit 7', "a b", OPENAI_API_KEY="k")
    assert (boot.code, boot.output) == (7, f"a b {machine.codex_home} k\n")


def test_a_command_has_the_signals_and_files_that_a_program_expects(machine: Machine) -> None:
    boot = machine.run("bash", "-c", "yes | head -1; ls /proc/$$/fd; :", CODEX_AUTH_JSON=subscription())
    assert boot.output.split()[0] == "y"
    assert "Broken pipe" not in boot.log
    assert machine.run("grep", "^SigBlk:", "/proc/self/status").output.split()[1].strip("0") == ""
    assert set(boot.output.split()[1:]) <= {"0", "1", "2", "255"}, "255 is bash's own"


def test_root_becomes_the_agent_for_good(machine: Machine) -> None:
    agent = pwd.getpwnam(OTHER) if OTHER else pwd.getpwuid(os.getuid())
    command = ("grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status")
    boot = machine.run(*command, CODEX_WORKSPACE_AGENT_USER=OTHER)
    assert boot.code == 0, boot.log
    numbers = {int(each) for line in boot.output.splitlines() for each in line.split()[1:]}
    assert {agent.pw_uid, agent.pw_gid} <= numbers
    assert (0 in numbers) == (agent.pw_uid == 0)


def test_what_root_left_in_configs_and_codex_home_is_the_agents(machine: Machine) -> None:
    machine.load('export FROM_FILE="two\nlines"\n')
    (machine.configs / "secrets.d/load.sh").chmod(0o600)
    machine.codex_home.mkdir()
    text = subscription()
    (machine.codex_home / "auth.json").write_text(text)
    (machine.codex_home / "auth.json").chmod(0o600)
    boot = machine.run(
        "sh",
        "-c",
        'cat "$CODEX_HOME/auth.json" && touch "$1/new" && printf "%s" "$FROM_FILE"',
        "sh",
        str(machine.configs),
        CODEX_WORKSPACE_AGENT_USER=OTHER,
    )
    assert boot.code == 0, boot.log
    assert boot.output == f"{text}two\nlines"


# --- signals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_boot(machine: Machine, number: signal.Signals) -> None:
    started = machine.root / "started"
    machine.load(f"touch '{started}'\nexec sleep 60\n")
    process = machine.start()
    wait_until(started.exists, "the secrets are being loaded")
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name} before the workspace was up" in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_runtime_that_has_no_handler_yet(machine: Machine, number: signal.Signals) -> None:
    started = machine.root / "started"
    machine.put(
        "bin/molecule-runtime",
        f"#!{sys.executable}\nimport pathlib, time\npathlib.Path('{started}').touch()\ntime.sleep(60)\n",
    )
    process = machine.start()
    wait_until(started.exists, "the runtime is being imported")
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in log


def test_a_signal_between_two_programs_is_taken_by_the_next(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "program").write_text(f"open({str(ran)!r}, 'w')\n")

    def block_and_be_sent() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)

    command = [sys.executable, str(APP / "launcher.py"), str(tmp_path / "program")]
    done = subprocess.run(command, preexec_fn=block_and_be_sent, capture_output=True, check=False)
    assert done.returncode == 143
    assert not ran.exists()


@pytest.mark.parametrize("goes_on", ["time.sleep(60)", "os.execv(sys.executable, command)"])
def test_a_signal_whose_exception_is_caught_by_somebody_is_not_lost(tmp_path: Path, goes_on: str) -> None:
    program = f"""
        import os, signal, sys, time
        command = [sys.executable, {str(APP / "launcher.py")!r}, {str(tmp_path / "next")!r}]
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            {goes_on}
    """
    (tmp_path / "program").write_text(textwrap.dedent(program))
    (tmp_path / "next").write_text("import time; time.sleep(60)\n")
    command = [sys.executable, str(APP / "launcher.py"), str(tmp_path / "program")]
    assert subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 143


def test_a_stop_is_said_once_where_the_program_has_threads(tmp_path: Path) -> None:
    """A server that puts the handler back after its own sends itself the signal that it was stopped by."""
    program = """
        import os, signal, threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        os.kill(os.getpid(), signal.SIGTERM)
    """
    (tmp_path / "program").write_text(textwrap.dedent(program))
    command = [sys.executable, str(APP / "launcher.py"), str(tmp_path / "program")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 143
    assert done.stderr == "[start] stopped by SIGTERM before the workspace was up\n"


# --- secrets of files ---------------------------------------------------------------------------------------


def test_secrets_of_files_are_there_before_anything_reads_them(machine: Machine) -> None:
    machine.load(f"export CODEX_AUTH_JSON='{subscription()}'\nexport PLATFORM_URL=https://from.file\n")
    boot = machine.run()
    assert f"secrets: CODEX_AUTH_JSON, PLATFORM_URL from {machine.configs}/secrets.d/load.sh" in boot.lines
    assert "workspace ws-1, platform https://from.file" in boot.lines
    kept = machine.codex_home / "auth.json.withheld"
    assert kept.read_text() == machine.seen()["given"]["CODEX_AUTH_JSON"]


def test_credentials_of_systemd_are_named_and_taken(machine: Machine) -> None:
    (machine.root / "credentials").mkdir()
    (machine.root / "credentials/OPENAI_API_KEY").write_text(f"{SECRET}\n")
    boot = machine.run(CREDENTIALS_DIRECTORY=str(machine.root / "credentials"))
    assert "secrets: OPENAI_API_KEY from systemd" in boot.lines
    assert machine.seen()["given"]["OPENAI_API_KEY"] == SECRET


# --- the subscription ---------------------------------------------------------------------------------------


def test_a_subscription_is_written_as_it_was_given_and_kept_to_the_agent(machine: Machine) -> None:
    text = subscription().replace("{", "{\r\n\t", 1) + "\r\n"
    boot = machine.run("true", CODEX_AUTH_JSON=text)
    file = machine.codex_home / "auth.json"
    assert file.read_bytes() == text.encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"{file}: written from CODEX_AUTH_JSON" in boot.lines
    assert f"{file}: as in CODEX_AUTH_JSON" in machine.run("true", CODEX_AUTH_JSON=text).lines


def test_the_first_of_the_two_names_wins(machine: Machine) -> None:
    first, alias = subscription("rt-first"), subscription("rt-alias")
    machine.run("true", CODEX_AUTH_JSON=first, CODEX_CHATGPT_AUTH_JSON=alias)
    assert (machine.codex_home / "auth.json").read_text() == first
    machine.run("true", CODEX_AUTH_JSON=" ", CODEX_CHATGPT_AUTH_JSON=subscription("rt-2", last_refresh=None))
    boot = machine.run("true", CODEX_CHATGPT_AUTH_JSON=alias)
    assert any("CODEX_CHATGPT_AUTH_JSON" in line for line in boot.lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "CODEX_AUTH_JSON is not JSON (line 1, column 2)"),
        ('{"auth_mode": "apikey"}', "for auth_mode 'apikey'"),
        ('{"tokens": {}}', "lacks tokens.access_token, tokens.refresh_token, tokens.id_token"),
        ('{"a": "\udcff"}', "is not UTF-8 text"),
    ],
)
def test_a_wrong_subscription_is_one_line_and_the_old_file_is_left(
    machine: Machine, text: str, words: str
) -> None:
    machine.run("true", CODEX_AUTH_JSON=subscription())
    boot = machine.run(CODEX_AUTH_JSON=text)
    (line,) = [line for line in boot.lines if line.startswith("auth.json is left as it is")]
    assert words in line
    assert "codex login" in line, "the remedy"
    assert boot.code == 0, "the runtime serves the reason"
    assert "rt-secret-given" in (machine.codex_home / "auth.json").read_text()


def test_the_watchdog_of_a_subscription_gets_no_credential_and_no_file_of_ours(machine: Machine) -> None:
    boot = machine.run(CODEX_AUTH_JSON=subscription(), OPENAI_API_KEY=SECRET)
    why = "owner: CODEX_AUTH_REFRESH_OWNER is not set, and PLATFORM_URL is off"
    assert f"OAuth: the watchdog keeps auth.json fresh ({why})" in boot.lines
    wait_until(machine.watchdog.exists, "the watchdog runs")
    text = machine.watchdog.read_text()
    assert text.startswith("--supervise\n")
    assert f"CODEX_HOME={machine.codex_home}\n" in text
    assert "CODEX_AUTH_REFRESH_OWNER=1\n" in text
    for secret in (SECRET, "rt-secret", "memfd"):
        assert secret not in text


@pytest.mark.parametrize("key", ["", SECRET])
def test_without_a_subscription_there_is_no_watchdog(machine: Machine, key: str) -> None:
    boot = machine.run(OPENAI_API_KEY=key)
    assert boot.code == 0
    assert "OAuth" not in boot.log


def test_a_follower_refreshes_nothing(machine: Machine) -> None:
    boot = machine.run(CODEX_AUTH_JSON=subscription(), CODEX_AUTH_REFRESH_OWNER="0")
    said = "OAuth: follower, this workspace refreshes nothing (CODEX_AUTH_REFRESH_OWNER=0)"
    assert said in boot.lines
    assert "the watchdog" not in boot.log


@pytest.mark.parametrize("url", ["", "http://platform.example:8080", "off.example"])
def test_under_a_platform_a_workspace_is_a_follower_unless_it_is_told_otherwise(
    machine: Machine, url: str
) -> None:
    boot = machine.run(CODEX_AUTH_JSON=subscription(), PLATFORM_URL=url)
    (line,) = [line for line in boot.lines if line.startswith("OAuth")]
    assert line.startswith(
        "OAuth: follower, this workspace refreshes nothing (CODEX_AUTH_REFRESH_OWNER is not"
    )
    assert "set it to 1" in line
    boot = machine.run(CODEX_AUTH_JSON=subscription(), PLATFORM_URL=url, CODEX_AUTH_REFRESH_OWNER="1")
    assert "OAuth: the watchdog keeps auth.json fresh (owner: CODEX_AUTH_REFRESH_OWNER=1)" in boot.lines


@pytest.mark.parametrize("url", ["off", "none", " OFF ", "off/"])
def test_without_a_platform_a_workspace_owns_its_account(machine: Machine, url: str) -> None:
    boot = machine.run(CODEX_AUTH_JSON=subscription(), PLATFORM_URL=url)
    assert any(line.startswith("OAuth: the watchdog keeps auth.json fresh (owner: ") for line in boot.lines)
    assert platform_url({"PLATFORM_URL": url}) is None, "the runtime says the same"


# --- CODEX_HOME ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["~/.codex", "", "home/.codex", "home/../home/.codex/"])
def test_codex_home_is_absolute_whatever_was_given(machine: Machine, value: str) -> None:
    home = {} if os.geteuid() == 0 else {"HOME": str(machine.home)}
    if os.geteuid() == 0 and not value.startswith("home"):
        value = str(machine.codex_home)
    boot = machine.run("sh", "-c", 'echo "$CODEX_HOME"; stat -c %a "$CODEX_HOME"', CODEX_HOME=value, **home)
    assert boot.output == f"{machine.codex_home}\n700\n"
    assert (machine.codex_home / "sessions").is_dir()


def test_a_home_that_cannot_be_written_is_replaced_by_configs_and_said(machine: Machine) -> None:
    machine.codex_home.write_text("a file is in the way")
    boot = machine.run("sh", "-c", 'echo "$CODEX_HOME"')
    assert boot.output == f"{machine.configs}/.codex\n"
    assert any("cannot be written here, so CODEX_HOME is" in line for line in boot.lines)


# --- what is refused ----------------------------------------------------------------------------------------


def refused(machine: Machine, code: int, words: str, *command: str, **env: str) -> None:
    boot = machine.run(*command, **env)
    assert boot.code == code, boot.log
    assert words in boot.lines[-1]
    assert "Traceback" not in boot.log


def test_no_place_for_codex_is_refused_with_each_that_was_tried(machine: Machine) -> None:
    machine.codex_home.write_text("")
    (machine.configs / ".codex").write_text("")
    refused(machine, 78, f"{machine.codex_home}: File exists; {machine.configs}/.codex: File exists")


@pytest.mark.parametrize("value", ["2", "yes", "00", " 1"])
def test_a_wrong_owner_setting_is_refused_before_anything_is_done(machine: Machine, value: str) -> None:
    refused(machine, 78, "CODEX_AUTH_REFRESH_OWNER is", CODEX_AUTH_REFRESH_OWNER=value)
    assert not machine.codex_home.exists()
    machine.load(f"export CODEX_AUTH_REFRESH_OWNER='{value}'\n")
    refused(machine, 78, "give 1 (this workspace refreshes its own account) or 0")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("false\n", "failed (exit code 1; bash says why above)"),
        ("exit 0\n", "take `exit` out of it"),
        ("if\n", "failed (exit code"),
    ],
)
def test_secrets_that_do_not_load_are_refused(machine: Machine, script: str, words: str) -> None:
    machine.load(script)
    refused(machine, 78, words)


def test_no_codex_is_refused(machine: Machine) -> None:
    (machine.bin / "codex").unlink()
    refused(
        machine,
        69,
        "codex is not installed: 'codex' is not an executable on PATH",
        PATH=f"{machine.bin}:/bin",
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\necho broken >&2; exit 3\n", "(exit code 3): broken"),
        ("not a program\n", "Exec format error"),
    ],
)
def test_a_codex_that_does_not_run_is_refused(machine: Machine, script: str, words: str) -> None:
    machine.codex.write_text(script)
    refused(machine, 69, words)


def test_a_subscription_without_its_watchdog_is_refused(machine: Machine) -> None:
    (machine.root / "files/bin/codex_auth_refresh.sh").write_text("no program\n")
    refused(machine, 70, "cannot be executed (Exec format error): install it", CODEX_AUTH_JSON=subscription())


def test_no_runtime_is_refused(machine: Machine) -> None:
    (machine.bin / "molecule-runtime").unlink()
    refused(machine, 70, "no molecule-runtime is installed")


def test_an_installation_without_the_entry_point_is_refused(machine: Machine) -> None:
    for path in (machine.root / "files/app").iterdir():
        path.unlink()
    start = machine.root / "files/bin/start.sh"
    text = start.read_text().replace(" /app;", f" {machine.root}/app;")
    start.unlink()
    machine.put("files/bin/start.sh", text)
    boot = machine.run()
    assert boot.code == 70
    assert "entrypoint.py is neither in" in boot.log


def test_a_command_that_is_not_there_or_no_program_is_refused(machine: Machine) -> None:
    refused(machine, 127, "no-such-command cannot be executed: No such file", "no-such-command")
    refused(machine, 126, f"{machine.home} cannot be executed: Permission denied", str(machine.home))


def test_a_full_disk_leaves_the_old_auth_json_and_no_temporary_file(machine: Machine) -> None:
    machine.run("true", CODEX_AUTH_JSON=subscription("rt-old", last_refresh="2020-01-01T00:00:00Z"))
    before = (machine.codex_home / "auth.json").read_bytes()
    names = sorted(path.name for path in machine.codex_home.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        boot = machine.run("true", CODEX_AUTH_JSON=subscription("rt-new"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert boot.code == 78
    assert "auth.json cannot be written (File too large): make room" in boot.lines[-1]
    assert (machine.codex_home / "auth.json").read_bytes() == before
    assert sorted(path.name for path in machine.codex_home.iterdir()) == names


if os.geteuid() == 0:

    def test_a_user_that_does_not_exist_is_refused_before_anything_is_done(machine: Machine) -> None:
        refused(machine, 78, "there is no user 'no-such-user'", CODEX_WORKSPACE_AGENT_USER="no-such-user")
        assert not machine.codex_home.exists()


@pytest.mark.parametrize(
    ("modules", "left"), [([], "()"), (["config_relay"], "('MOLECULE_CONFIG_RELAY_ACK_TOKEN',)")]
)
def test_a_runtime_that_fetches_its_configuration_is_left_the_token_for_it(
    tmp_path: Path, modules: list[str], left: str
) -> None:
    """The platform's own runtime refuses to start where its address is given and its token is not."""
    (tmp_path / "molecule_runtime").mkdir()
    for name in ("__init__", *modules):
        (tmp_path / "molecule_runtime" / f"{name}.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "import entrypoint; print(entrypoint._spent_by_runtime())"],
        env={"PYTHONPATH": f"{APP}:{APP.parent / 'config_document'}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{left}\n"
