"""git's askpass, asked by a real git for a real remote that answers 401 first."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKPASS = Path(__file__).parents[2] / "files/bin/molecule-askpass"
USER, SECRET = "robot", "p%s\\n $(id) 'quoted' \"twice\" -e ü"


def answer(prompt: list[str], **environment: str) -> str:
    done = subprocess.run(
        [ASKPASS, *prompt], env=environment, capture_output=True, check=True, timeout=60, text=True
    )
    assert done.stderr == ""
    return done.stdout


class Remote:
    """A git repository behind HTTP basic authentication (git's own http-backend as CGI)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authorizations: list[str | None] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/project.git"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        remote = self
        expected = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                given = self.headers.get("Authorization")
                remote.authorizations.append(given)
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if given != expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="project"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                done = subprocess.run(
                    ["git", "http-backend"],
                    input=body,
                    capture_output=True,
                    check=True,
                    timeout=60,
                    env={
                        "PATH": os.environ["PATH"],
                        "GIT_PROJECT_ROOT": str(remote.root),
                        "GIT_HTTP_EXPORT_ALL": "1",
                        "PATH_INFO": path,
                        "QUERY_STRING": query,
                        "REQUEST_METHOD": self.command,
                        "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                        "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                        "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    },
                )
                head, _, content = done.stdout.partition(b"\r\n\r\n")
                self.send_response(200)
                for line in head.decode().splitlines():
                    name, _, value = line.partition(": ")
                    assert name != "Status", line
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Keep the test's output clean."""

        return Handler


def git(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-c", "credential.helper=", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": str(ASKPASS),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    work = tmp_path / "work"
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main", str(work)],
        ["-C", str(work), *identity, "commit", "--quiet", "--allow-empty", "-m", "one commit"],
        ["clone", "--quiet", "--bare", str(work), str(tmp_path / "root/project.git")],
    ):
        done = git(*arguments, home=tmp_path)
        assert done.returncode == 0, done.stderr
    served = Remote(tmp_path / "root")
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


@pytest.mark.parametrize(
    ("user_name", "secret_name"),
    [("GIT_HTTP_USERNAME", "GIT_HTTP_PASSWORD"), ("GITEA_USER", "GITEA_TOKEN")],
)
def test_git_clones_from_a_remote_that_asks_for_either_pair(
    remote: Remote, tmp_path: Path, user_name: str, secret_name: str
) -> None:
    copy = tmp_path / "copy"
    done = git("clone", remote.url, str(copy), home=tmp_path, **{user_name: USER, secret_name: SECRET})
    assert done.returncode == 0, done.stderr
    assert remote.authorizations[0] is None, "the remote challenged first"
    log = git("-C", str(copy), "log", "--format=%s", home=tmp_path)
    assert log.stdout == "one commit\n"
    assert SECRET not in done.stdout + done.stderr + (copy / ".git/config").read_text()


@pytest.mark.parametrize("environment", [{}, {"GIT_HTTP_USERNAME": USER, "GIT_HTTP_PASSWORD": "wrong"}])
def test_git_fails_and_does_not_wait_for_a_person_without_the_right_credentials(
    remote: Remote, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = git("ls-remote", remote.url, home=tmp_path, **environment)
    assert done.returncode == 128
    assert "Authentication failed" in done.stderr


HTTP = {"GIT_HTTP_USERNAME": "hu", "GIT_HTTP_PASSWORD": "hp"}
GITEA = {"GITEA_USER": "gu", "GITEA_TOKEN": "gt"}


@pytest.mark.parametrize(
    ("environment", "username", "password"),
    [
        ({}, "", ""),
        (HTTP, "hu", "hp"),
        (GITEA, "gu", "gt"),
        ({**GITEA, **HTTP}, "hu", "hp"),
        ({**GITEA, "GIT_HTTP_USERNAME": "hu"}, "hu", "gt"),
        ({**GITEA, "GIT_HTTP_USERNAME": "hu", "GIT_HTTP_PASSWORD": ""}, "hu", "gt"),
        ({**GITEA, "GIT_HTTP_PASSWORD": "hp"}, "gu", "hp"),
        ({"GIT_HTTP_USERNAME": "hu", "GITEA_TOKEN": "gt"}, "hu", "gt"),
        ({"GIT_HTTP_USERNAME": "hu", "GITEA_USER": "gu"}, "hu", ""),
        ({"GIT_HTTP_PASSWORD": "hp\r"}, "", "hp"),
    ],
)
def test_each_of_the_two_has_a_fallback_of_its_own(
    environment: dict[str, str], username: str, password: str
) -> None:
    assert answer(["Username for 'http://h': "], **environment) == f"{username}\n"
    assert answer(["Password for 'http://u@h': "], **environment) == f"{password}\n"


def test_a_token_that_is_rotated_while_git_is_at_work_is_given_at_its_next_question(tmp_path: Path) -> None:
    """The environment of a running process stays; the platform's file does not."""
    (tmp_path / "secrets.d").mkdir()
    file = tmp_path / "secrets.d/GITEA_TOKEN"
    environment = {**GITEA, "CONFIGS_DIR": str(tmp_path)}
    assert answer(["Password: "], **environment) == "gt\n"
    file.write_bytes(b"second\r\n")
    assert answer(["Password: "], **environment) == "second\n"
    assert answer(["Username: "], **environment) == "gu\n"
    file.write_text("third")
    assert answer(["Password: "], **environment) == "third\n"
    assert answer(["Password: "], **{**environment, "GIT_HTTP_PASSWORD": "hp"}) == "hp\n"
    file.write_text("")
    assert answer(["Password: "], **environment) == "gt\n"


@pytest.mark.parametrize("secret", ["%s%n", "-n", "-e \\t", "a\\nb", "$(id)`id`", "*", " spaces ", "ü€"])
def test_every_character_is_given_as_it_is(secret: str) -> None:
    assert answer(["Password: "], GITEA_TOKEN=secret) == f"{secret}\n"


@pytest.mark.parametrize("prompt", [[], [""], ["Enter passphrase for key '/k': "], ["Passcode"], ["-n"]])
def test_any_other_prompt_gets_an_empty_line(prompt: list[str]) -> None:
    assert answer(prompt, **HTTP, **GITEA) == "\n"


def test_the_exit_code_is_0_even_if_the_answer_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [ASKPASS, "Password: "], env=HTTP, stdout=full, stderr=subprocess.DEVNULL, check=False, timeout=60
        )
    assert done.returncode == 0
