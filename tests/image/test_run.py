"""What `docker run` of the image does, through its real entry point."""

from __future__ import annotations

import subprocess
import uuid

import pytest


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    argv = ["docker", "run", "--rm", "--network", "none", *options, image, *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def test_a_command_runs_as_the_agent_with_nothing_else_on_stdout(image: str) -> None:
    done = run(image, "codex", "--version")
    assert (done.returncode, done.stdout) == (0, "codex-cli 0.130.0\n")
    assert run(image, "id", "-un").stdout == "agent\n"
    assert run(image, "sh", "-c", "echo $HOME").stdout == "/home/agent\n"


def test_a_command_reads_what_it_is_given_on_stdin(image: str) -> None:
    argv = ["docker", "run", "--rm", "--interactive", "--network", "none", image, "cat"]
    done = subprocess.run(argv, input="given\n", capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "given\n"


def test_the_exit_code_is_that_of_the_command(image: str) -> None:
    assert run(image, "sh", "-c", "exit 42").returncode == 42


def test_configs_and_their_token_end_up_with_the_agent(image: str) -> None:
    volume = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"
    mount = ("-v", f"{volume}:/configs")
    try:
        run(
            image,
            "-c",
            "umask 077; echo token > /configs/.auth_token",
            options=(*mount, "--entrypoint", "sh"),
        )
        done = run(image, "stat", "-c", "%u %a %n", "/configs", "/configs/.auth_token", options=mount)
        assert done.stdout == "1000 755 /configs\n1000 600 /configs/.auth_token\n"
    finally:
        subprocess.run(["docker", "volume", "rm", "--force", volume], check=True, stdout=subprocess.DEVNULL)


def test_multi_line_secrets_are_loaded_before_anything_else(image: str) -> None:
    volume = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"
    mount = ("-v", f"{volume}:/configs")
    loader = "mkdir -p /configs/secrets.d; printf 'export KEY=\"one\\ntwo\"\\n' > /configs/secrets.d/load.sh"
    try:
        run(image, "-c", loader, options=(*mount, "--entrypoint", "sh"))
        done = run(image, "sh", "-c", 'printf %s "$KEY"', options=mount)
        assert done.stdout == "one\ntwo"
        assert "two" not in done.stderr
    finally:
        subprocess.run(["docker", "volume", "rm", "--force", volume], check=True, stdout=subprocess.DEVNULL)


def test_git_authenticates_through_askpass_without_being_told(image: str) -> None:
    done = run(image, "sh", "-c", 'echo "url=https://example.invalid" | git credential fill',
               options=("-e", "GIT_HTTP_USERNAME=someone", "-e", "GIT_HTTP_PASSWORD=something"))  # fmt: skip
    assert "username=someone\npassword=something\n" in done.stdout


def test_it_starts_as_the_agent_too_and_says_what_it_skips(image: str) -> None:
    done = run(image, "id", "-u", options=("--user", "1000:1000"))
    assert (done.returncode, done.stdout) == (0, "1000\n")
    assert "not root" in done.stderr


@pytest.mark.parametrize(
    ("variable", "code", "words"),
    [
        ("WORKSPACE_ID=a/b", 2, "WORKSPACE_ID is 'a/b': allowed are 1 to 128 of a-z, 0-9 and '-'"),
        ("CODEX_AUTH_REFRESH_OWNER=no", 78, "CODEX_AUTH_REFRESH_OWNER is 'no': give 1"),
    ],
)
def test_a_variable_that_cannot_be_used_is_said_with_what_is_allowed(
    image: str, variable: str, code: int, words: str
) -> None:
    done = run(image, options=("--env", variable))
    assert done.returncode == code
    assert words in done.stderr


def test_without_a_workspace_id_it_says_what_to_do_in_one_line_and_exits_2(image: str) -> None:
    done = run(image)
    assert done.returncode == 2
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("[start]")]
    assert "WORKSPACE_ID is not set: pass the id of this workspace, e.g. -e WORKSPACE_ID=my-agent" in line


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["as the first process", "under tini"])
def test_it_can_be_stopped_from_its_first_moment(image: str, options: tuple[str, ...]) -> None:
    """The engine kills after ten seconds what does not notice SIGTERM, with exit code 137."""
    name = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"
    own = ("--name", name, "--env=WORKSPACE_ID=ws-1", "--env=PLATFORM_URL=off", *options)
    try:
        subprocess.run(["docker", "run", "--detach", *own, image], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["docker", "stop", name], check=True, stdout=subprocess.DEVNULL)
        look = ["docker", "inspect", "--format", "{{.State.ExitCode}}", name]
        code = subprocess.run(look, check=True, capture_output=True, text=True).stdout.strip()
        assert code in ("0", "143"), "it may be up by then"
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, stdout=subprocess.DEVNULL)
