"""The shell entry of the refresh watchdog: options, settings, the search for a Python, the loop."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from auth_json import install
from codex_auth_refresh import REJECTED_CODES
from support.token_endpoint import Reply, TokenEndpoint
from support.watchdog import (
    APP,
    DAY,
    ENTRY,
    REFRESH_TOKEN,
    Home,
    auth_document,
    children,
    wait_until,
)

# --- options and settings -----------------------------------------------------------------------------------


def test_help_tells_every_setting_and_exit_code(home: Home) -> None:
    code, _, log = home.run("--help")
    assert code == 0
    for word in (
        "--once",
        "CODEX_AUTH_REFRESH_INTERVAL_SECONDS (21600)",
        "CODEX_AUTH_SAFETY_MARGIN_SECONDS (14400)",
        "CODEX_AUTH_STALE_AFTER_SECONDS (604800)",
        "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
        "0 refreshed, 1 skipped, 2 transient failure, 3 permanent failure",
        "64 wrong option",
        "127 no Python",
    ):
        assert word in log


@pytest.mark.parametrize("options", [["--twice"], ["once"], ["--once", "--once"]])
def test_a_wrong_option_is_refused_with_the_usage(
    home: Home, endpoint: TokenEndpoint, options: list[str]
) -> None:
    home.write(auth_document())
    code, _, log = home.run(*options)
    assert code == 64
    assert "Usage:" in log
    assert endpoint.seen == []


@pytest.mark.parametrize("options", [[], ["--once"]], ids=["loop", "once"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (f"CODEX_AUTH_{name}_SECONDS", value)
            for name in ("REFRESH_INTERVAL", "SAFETY_MARGIN", "STALE_AFTER")
            for value in ("-1", "4h", "1.5", " 1", "31536001", "999999999999", "1\n2")
        ),
        ("CODEX_AUTH_REFRESH_INTERVAL_SECONDS", "0"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://auth.example.com/token"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://127.0.0.1.example.com/token"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://127.0.0.999/token"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "https://user:pw-secret@auth.example.com/"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "https://auth.example.com:99999/"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "https://auth.example.com/#x"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "file:///etc/passwd"),
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "auth.example.com"),
    ],
)
def test_a_wrong_setting_is_one_clear_line_before_anything_is_done(
    home: Home, endpoint: TokenEndpoint, options: list[str], name: str, value: str
) -> None:
    home.write(auth_document())
    code, _, log = home.run(*options, command=None, **{name: value})
    assert code == 64, log
    assert len(log.splitlines()) == 1
    assert name in log
    assert "unset it for" in log
    assert "pw-secret" not in log
    assert endpoint.seen == []
    assert [path.name for path in home.path.iterdir()] == ["auth.json"]


@pytest.mark.parametrize(
    "url",
    [
        "https://auth.example.com/oauth/token?a=b",
        "https://auth.example.com",
        "https://[2001:db8::1]:8443/token",
        "http://localhost:1/token",
        "http://127.0.0.1/token",
        "http://127.9.8.255:65535/token",
        "http://[::1]:80/token",
    ],
)
def test_every_address_that_keeps_the_token_secret_is_allowed(home: Home, url: str) -> None:
    assert home.run("--once", CODEX_REFRESH_TOKEN_URL_OVERRIDE=url)[:2] == (1, "skip:no_auth_json")


def test_the_margin_and_the_age_can_be_tuned(home: Home) -> None:
    fresh = auth_document(expires_in=DAY)
    home.write(fresh)
    assert home.run("--once", CODEX_AUTH_SAFETY_MARGIN_SECONDS="0080000")[0] == 1
    assert home.run("--once", CODEX_AUTH_SAFETY_MARGIN_SECONDS=str(2 * DAY))[0] == 0
    home.write({**fresh, "tokens": {**fresh["tokens"], "refresh_token": "rt-secret-issued-1"}})
    assert home.run("--once", CODEX_AUTH_STALE_AFTER_SECONDS=str(DAY // 2))[:2] == (
        0,
        "refreshed:last_refresh_stale",
    )


def test_an_empty_setting_counts_as_unset(home: Home) -> None:
    home.write(auth_document(expires_in=DAY))
    names = ("REFRESH_INTERVAL", "SAFETY_MARGIN", "STALE_AFTER")
    assert home.run("--once", command=None, **{f"CODEX_AUTH_{name}_SECONDS": "" for name in names})[0] == 1


# --- the search for a Python --------------------------------------------------------------------------------


class Machine:
    """The real entry with its fixed paths moved below a directory, where Pythons can come and go."""

    def __init__(self, root: Path, home: Home) -> None:
        self.root, self.home = root, home
        self.used = root / "used"
        self.bin = root / "bin"
        for directory in (self.bin, root / "files/bin"):
            directory.mkdir(parents=True)
        self.used.touch()
        (root / "files/app").symlink_to(APP)
        for tool in ("bash", "sleep", "cat"):
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)
        self.entry = self._moved("codex_auth_refresh.sh", " /app/codex")
        self._moved("workspace-python", "/opt/molecule-venv/", "/usr/local/bin/python3", "/usr/bin/python3")

    def _moved(self, name: str, *paths: str) -> Path:
        text = (ENTRY.parent / name).read_text()
        for path in paths:
            assert path in text
            space = " " if path.startswith(" ") else ""
            text = text.replace(path, f"{space}{self.root}{path.strip()}")
        moved = self.root / "files/bin" / name
        moved.write_text(text)
        moved.chmod(0o755)
        return moved

    def put(self, path: str, *, broken: bool = False) -> str:
        """Put a Python that writes its path into `used`; a broken one cannot start."""
        python = self.root / path
        python.parent.mkdir(parents=True, exist_ok=True)
        run = "exit 1" if broken else f'echo {path} >>"{self.used}"; exec "{sys.executable}" "$@"'
        python.write_text(f"#!/bin/sh\n{run}\n")
        python.chmod(0o755)
        return str(python)

    def run(self, **environment: str) -> tuple[int, str, str]:
        return self.home.run(
            command=[str(self.entry), "--once"],
            **{"PATH": str(self.bin), "CODEX_PYTHON": "", **environment},
        )

    def replace_module(self, source: str) -> None:
        """Let every round do something else."""
        self.put("bin/python3")
        app = self.root / "files/app"
        app.unlink()
        app.mkdir()
        (app / "codex_auth_refresh.py").write_text(source)

    def delays(self, count: int, *options: str) -> list[str]:
        """Run without a pause, until it has wanted to sleep `count` times: for how long each time."""
        slept = self.root / "slept"
        (self.bin / "sleep").unlink()
        (self.bin / "sleep").write_text(
            f'#!/bin/sh\necho "$1" >>"{slept}"\n'
            f'[ "$(/usr/bin/wc -l <"{slept}")" -lt {count} ] || kill -TERM "$PPID"\n'
        )
        (self.bin / "sleep").chmod(0o755)
        self.home.run(
            command=[str(self.entry), *options],
            PATH=str(self.bin),
            CODEX_PYTHON="",
            CODEX_AUTH_REFRESH_INTERVAL_SECONDS="500",
        )
        return slept.read_text().split()[:count]

    def last_used(self) -> str:
        return self.used.read_text().splitlines()[-1]


@pytest.fixture
def machine(tmp_path: Path, home: Home) -> Machine:
    return Machine(tmp_path / "machine", home)


IN_ORDER = [
    "chosen/python",
    "opt/molecule-venv/bin/python3",
    "bin/python3",
    "usr/local/bin/python3",
    "usr/bin/python3",
]


def test_pythons_are_tried_in_the_documented_order(machine: Machine) -> None:
    paths = {path: machine.put(path) for path in IN_ORDER}
    for path in IN_ORDER:
        code, word, log = machine.run(CODEX_PYTHON=paths[IN_ORDER[0]] if path == IN_ORDER[0] else "")
        assert (code, word) == (1, "skip:no_auth_json"), log
        assert machine.last_used() == path
        (machine.root / path).unlink()
    assert machine.run()[0] == 127


def test_without_the_virtual_environment_of_old_it_still_runs(machine: Machine) -> None:
    machine.put("usr/local/bin/python3")
    code, word, log = machine.run()
    assert not (machine.root / "opt").exists()
    assert (code, word, len(log.splitlines())) == (1, "skip:no_auth_json", 1)


def test_127_and_one_line_only_where_there_is_no_python(machine: Machine) -> None:
    code, _, log = machine.run()
    assert code == 127
    assert len(log.splitlines()) == 1
    assert "no Python 3.9 or newer" in log
    assert "CODEX_PYTHON" in log


def test_a_python_that_does_not_run_is_passed_over(machine: Machine) -> None:
    dangling = machine.root / "opt/molecule-venv/bin/python3"
    dangling.parent.mkdir(parents=True)
    dangling.symlink_to(machine.root / "gone")
    machine.put("bin/python3", broken=True)
    (machine.root / "usr/local/bin/python3").mkdir(parents=True)
    machine.put("usr/bin/python3")
    assert machine.run()[0] == 1
    assert machine.last_used() == "usr/bin/python3"


def test_a_second_python_on_path_stands_in_for_a_broken_first(machine: Machine) -> None:
    machine.put("bin/python3", broken=True)
    machine.put("other/python3")
    assert machine.run(PATH=f"{machine.bin}:{machine.root}/other")[0] == 1
    assert machine.last_used() == "other/python3"


def test_a_wrong_codex_python_is_said_and_passed_over(machine: Machine) -> None:
    machine.put("usr/bin/python3")
    code, word, log = machine.run(CODEX_PYTHON="/nowhere/python3")
    assert (code, word) == (1, "skip:no_auth_json")
    assert "CODEX_PYTHON is '/nowhere/python3'" in log.splitlines()[0]
    assert len(log.splitlines()) == 2


@pytest.mark.parametrize("content", [None, "def broken(:\n", "import no_such_module\n"])
def test_a_module_that_does_not_load_is_never_taken_for_a_skip(machine: Machine, content: str | None) -> None:
    machine.put("bin/python3")
    app = machine.root / "files/app"
    app.unlink()
    if content is not None:
        app.mkdir()
        (app / "codex_auth_refresh.py").write_text(content)
    code, _, log = machine.run()
    assert code == 70
    assert len(log.splitlines()) == 1


def test_the_installed_layout_works_too(machine: Machine) -> None:
    machine.put("bin/python3")
    (machine.root / "files/app").unlink()
    (machine.root / "app").symlink_to(APP)
    assert machine.run()[:2] == (1, "skip:no_auth_json")


@pytest.mark.parametrize("name", ["codex_auth_refresh", "agent_user"])
def test_the_module_needs_nothing_newer_than_python_3_9(name: str) -> None:
    tree = ast.parse((APP / f"{name}.py").read_text(), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            imported.add(node.module.split(".")[0])
    assert imported - {"agent_user"} <= sys.stdlib_module_names


# --- the loop -----------------------------------------------------------------------------------------------


def below(pid: int) -> list[int]:
    """Return the live processes below a process, all generations."""
    return [each for child in children(pid) for each in (child, *below(child))]


def sleeper(pid: int) -> list[int]:
    found = []
    for child in below(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):
                found.append(child)
    return found


LOOPS = pytest.mark.parametrize("options", [[], ["--supervise"]], ids=["loop", "supervised"])


@LOOPS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_sleeping_loop_and_leaves_no_child(
    home: Home, number: signal.Signals, options: list[str]
) -> None:
    loop = home.start(*options)
    wait_until(lambda: sleeper(loop.pid), "the loop sleeps")
    left = below(loop.pid)
    loop.process.send_signal(number)
    assert loop.result()[0] == -number
    assert [pid for pid in left if Path(f"/proc/{pid}").exists()] == []


@LOOPS
def test_sigterm_ends_the_loop_only_after_tokens_under_way_are_saved(
    home: Home, endpoint: TokenEndpoint, options: list[str]
) -> None:
    home.write(auth_document())
    endpoint.hold()
    loop = home.start(*options)
    endpoint.wait_for_request()
    python = below(loop.pid)[-1]
    loop.process.terminate()
    endpoint.release()
    assert loop.result()[:2] == (-signal.SIGTERM, "refreshed:access_token_expiring")
    assert home.document()["tokens"]["refresh_token"] == "rt-secret-issued-1"
    assert not Path(f"/proc/{python}").exists()


@LOOPS
def test_the_sleeping_loop_is_small(home: Home, options: list[str]) -> None:
    loop = home.start(*options)
    wait_until(lambda: sleeper(loop.pid), "the loop sleeps")
    resident = 0
    for pid in (loop.pid, *below(loop.pid)):
        status = Path(f"/proc/{pid}/status").read_text()
        resident += int(status.split("VmRSS:")[1].split()[0])
    loop.process.terminate()
    loop.result()
    assert resident <= 15 * 1024, f"{resident} KiB"


def test_the_loop_tries_again_after_a_transient_failure(home: Home, endpoint: TokenEndpoint) -> None:
    home.write(auth_document())
    endpoint.replies = [Reply(503), Reply(429)]
    loop = home.start(CODEX_AUTH_REFRESH_INTERVAL_SECONDS="1")
    wait_until(lambda: "refreshed:" in loop.log(), "the third round succeeds")
    loop.process.terminate()
    loop.result()
    words = [line.split()[1] for line in loop.log().splitlines()]
    assert words[:3] == ["transient:http_503", "transient:http_429", "refreshed:access_token_expiring"]


@pytest.mark.parametrize(
    ("code", "delays"),
    [(2, ["60", "120", "240", "480", "500", "500"]), (0, ["500"] * 6), (1, ["500"] * 6), (3, ["500"] * 6)],
)
def test_retries_come_sooner_than_the_interval_and_ever_slower(
    machine: Machine, code: int, delays: list[str]
) -> None:
    machine.replace_module(f"raise SystemExit({code})\n")
    assert machine.delays(6) == delays


def test_the_loop_sends_a_refused_token_once_and_a_new_one_at_once(
    home: Home, endpoint: TokenEndpoint
) -> None:
    home.write(auth_document(refresh_token="rt-secret-revoked"))
    loop = home.start(CODEX_AUTH_REFRESH_INTERVAL_SECONDS="1")
    wait_until(lambda: loop.log().count("permanent:refresh_token_invalidated") >= 2, "two rounds fail")
    assert endpoint.seen == ["rt-secret-revoked"]
    home.write(auth_document())
    wait_until(lambda: "refreshed:" in loop.log(), "the new token is taken")
    loop.process.terminate()
    loop.result()
    assert endpoint.seen == ["rt-secret-revoked", REFRESH_TOKEN]


@LOOPS
def test_the_loop_ends_when_no_python_is_left(machine: Machine, options: list[str]) -> None:
    command = [str(machine.entry), *options]
    code, _, log = machine.home.run(command=command, PATH=str(machine.bin), CODEX_PYTHON="")
    assert code == 127
    assert len(log.splitlines()) == 1 + len(options)


@LOOPS
def test_the_loop_ends_where_it_cannot_sleep(machine: Machine, options: list[str]) -> None:
    machine.put("bin/python3")
    (machine.bin / "sleep").unlink()
    command = [str(machine.entry), *options]
    code, _, log = machine.home.run(command=command, PATH=str(machine.bin), CODEX_PYTHON="")
    assert code == 70
    assert log.count("skip:no_auth_json") == 1
    assert "there is no sleep on PATH" in log


# --- supervised ---------------------------------------------------------------------------------------------


def test_a_loop_that_dies_is_started_again(home: Home, endpoint: TokenEndpoint) -> None:
    watchdog = home.start("--supervise")
    wait_until(lambda: sleeper(watchdog.pid), "the loop sleeps")
    (loop,) = children(watchdog.pid)
    (asleep,) = sleeper(watchdog.pid)
    home.write(auth_document())
    os.kill(loop, signal.SIGKILL)
    os.kill(asleep, signal.SIGKILL)
    wait_until(lambda: "refreshed:" in watchdog.log(), "another loop does its first round")
    watchdog.process.terminate()
    watchdog.result()
    assert "the watchdog died (exit code 137) and is started again in 1 s" in watchdog.log()
    assert endpoint.seen == [REFRESH_TOKEN]


def test_a_loop_that_keeps_dying_is_started_ever_slower(machine: Machine) -> None:
    machine.replace_module("import os\nos.kill(os.getppid(), 9)\n")
    delays = machine.delays(11, "--supervise")
    assert delays == ["1", "2", "4", "8", "16", "32", "64", "128", "256", "300", "300"]


def test_what_no_restart_would_mend_is_said_once(machine: Machine) -> None:
    machine.replace_module("def broken(:\n")
    code, _, log = machine.home.run(
        command=[str(machine.entry), "--supervise"], PATH=str(machine.bin), CODEX_PYTHON=""
    )
    assert code == 70
    assert log.count("does not load") == 1
    assert "ended with exit code 70, and is not started again" in log.splitlines()[-1]


@pytest.mark.parametrize("options", [[], ["--once"], ["--supervise"]], ids=["loop", "once", "supervised"])
def test_a_follower_asks_for_nothing(home: Home, endpoint: TokenEndpoint, options: list[str]) -> None:
    home.write(auth_document())
    before = home.auth.read_bytes()
    code, word, _ = home.run(*options, CODEX_AUTH_REFRESH_OWNER="0")
    assert (code, word) == (1, "skip:not_refresh_owner")
    assert endpoint.seen == []
    assert home.auth.read_bytes() == before
    assert home.status()["watchdog_last_outcome"] == "skip:not_refresh_owner"
    assert home.status()["last_refresh"] == home.document()["last_refresh"][:-11] + "Z"


@pytest.mark.parametrize("options", [[], ["--supervise"]], ids=["loop", "supervised"])
@pytest.mark.parametrize("url", ["https://platform.example", " http://localhost:8080/ ", "offline.example"])
def test_under_a_platform_the_loop_refreshes_nothing_unless_it_is_told_to(
    home: Home, endpoint: TokenEndpoint, options: list[str], url: str
) -> None:
    home.write(auth_document())
    assert home.run(*options, PLATFORM_URL=url)[:2] == (1, "skip:not_refresh_owner")
    assert endpoint.seen == []
    watchdog = home.start(*options, PLATFORM_URL=url, CODEX_AUTH_REFRESH_OWNER="1")
    wait_until(lambda: "refreshed:" in watchdog.log(), "it refreshes")
    watchdog.process.send_signal(signal.SIGTERM)
    watchdog.result()


@pytest.mark.parametrize("url", ["off", "None", " OFF/ ", ""])
def test_the_loop_without_a_platform_refreshes(home: Home, endpoint: TokenEndpoint, url: str) -> None:
    home.write(auth_document())
    watchdog = home.start(PLATFORM_URL=url)
    wait_until(lambda: "refreshed:" in watchdog.log(), "it refreshes")
    watchdog.process.send_signal(signal.SIGTERM)
    watchdog.result()
    assert endpoint.seen == [REFRESH_TOKEN]


def test_one_round_that_is_asked_for_refreshes_under_a_platform_too(
    home: Home, endpoint: TokenEndpoint
) -> None:
    home.write(auth_document())
    assert home.run("--once", PLATFORM_URL="https://platform.example")[0] == 0
    assert endpoint.seen == [REFRESH_TOKEN]


def test_a_round_that_is_asked_for_takes_the_token_that_codex_is_not_given(
    home: Home, endpoint: TokenEndpoint
) -> None:
    install(home.path, json.dumps(auth_document()), "CODEX_AUTH_JSON", withhold=True)
    assert home.run("--once", CODEX_AUTH_REFRESH_OWNER="0")[:2] == (1, "skip:not_refresh_owner")
    assert endpoint.seen == []
    assert home.run("--once")[:2] == (0, "refreshed:access_token_expiring")
    assert endpoint.seen == [REFRESH_TOKEN]
    assert home.document()["tokens"]["refresh_token"] == "rt-secret-issued-1"


@pytest.mark.parametrize("left", [None, "{", '{"tokens": {}}'])
def test_a_placeholder_is_never_sent(home: Home, endpoint: TokenEndpoint, left: str | None) -> None:
    install(home.path, json.dumps(auth_document()), "CODEX_AUTH_JSON", withhold=True)
    kept = home.path / "auth.json.withheld"
    kept.unlink()
    if left is not None:
        kept.write_text(left)
    assert home.run("--once")[:2] == (1, "skip:no_refresh_token")
    assert endpoint.seen == []


@pytest.mark.parametrize("value", ["", "1"])
def test_the_owner_is_the_default(home: Home, endpoint: TokenEndpoint, value: str) -> None:
    home.write(auth_document())
    assert home.run("--once", CODEX_AUTH_REFRESH_OWNER=value)[0] == 0
    assert endpoint.seen == [REFRESH_TOKEN]


def test_the_entry_is_executable() -> None:
    assert os.access(ENTRY, os.X_OK)


def test_the_manual_names_every_reason_setting_and_exit_code() -> None:
    manual = (APP.parents[1] / "docs/auth-refresh.md").read_text()
    source = (APP / "codex_auth_refresh.py").read_text()
    reasons = set(re.findall(r'(?:skip|transient|permanent)\(\s*"([a-z_0-9]+)"', source))
    reasons |= set(re.findall(r'return "([a-z_]+)"', source))
    assert {"fresh", "cannot_save", "age_unknown", "recovered"} <= reasons
    words = [*reasons, *REJECTED_CODES, *re.findall(r"\bCODEX_[A-Z_]+\b", source)]
    entry = ENTRY.read_text()
    words += re.findall(r"\bCODEX_[A-Z_]+\b", entry) + re.findall(r"--[a-z]+", entry) + ["not_refresh_owner"]
    assert [word for word in words if word not in manual] == []
    for code in (0, 1, 2, 3, 64, 70, 127):
        assert f"\n| {code} |" in manual
