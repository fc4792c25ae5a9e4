"""A workspace in a real container of the image, with the stand-ins for model and platform in this process.

They listen on the gateway of docker's bridge, so that a test can hold and script what they answer; files go
in by `docker cp`, so that the engine need not see this machine's directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import json
import re
import tarfile
import uuid
from typing import TYPE_CHECKING, Any, Self

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.errors import A2AClientError
from a2a.types import Message, Part, Role, SendMessageRequest

from support.codex_workbench import API_KEY, PATIENCE, Sent
from support.runtime_process import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from a2a.client import Client

    from support.fake_platform import FakePlatform

__all__ = ["CONFIG", "WorkspaceContainer", "docker", "gateway", "send", "until"]

# No retries: a failure of the model is then a failure of the turn, and no test waits for five of them.
CONFIG = """\
name: Test workspace
runtime_config: {{provider: standin}}
providers:
  - name: standin
    auth_mode: openai_compat_responses
    base_url: {base_url}
    auth_env: [STANDIN_KEY]
bridge:
  app_server_args:
    - app-server
    - -c
    - model_providers.standin.request_max_retries=0
    - -c
    - model_providers.standin.stream_max_retries=0
"""
_AGENT_UID = 1000


async def docker(*args: str, stdin: bytes | None = None, check: bool = True) -> str:
    """Run the docker client beside this event loop, where the stand-in lives; returns all that it prints."""
    process = await asyncio.create_subprocess_exec(
        "docker",
        *args,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate(stdin)
    text = output.decode(errors="replace")
    assert process.returncode == 0 or not check, f"docker {args[0]}: {text}"
    return text


async def gateway() -> str:
    """The address of this machine in the bridge network of the engine."""
    subnet = await docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}")
    return str(ipaddress.ip_network(subnet.strip())[1])


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until it is so: nothing tells from outside when a container has come so far."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


class WorkspaceContainer:
    """One workspace and its volumes (/configs, /home/agent, /workspace). `async with` it: it then serves.

    Args:
        image: The image under test.
        config: Text of /configs/config.yaml.
        env: Variables of the container; WORKSPACE_ID and PLATFORM_URL=off are set too.
        options: More options of `docker create`.
        mounts: Which of the directories are volumes; those with `:ro` behind it cannot be written.
        files: Text by path below /configs, put there beside config.yaml.
        home_files: Text by path below /home/agent, put there before the first start.
        owner: Who owns /configs before the first start, as the platform may have left it.
        port: The port that it serves on inside.
        platform: The platform that it registers with.
        network: A container whose network it shares, and which publishes its port.
    """

    def __init__(
        self,
        image: str,
        config: str,
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        mounts: Sequence[str] = ("/configs", "/home/agent", "/workspace"),
        files: Mapping[str, str] | None = None,
        home_files: Mapping[str, str] | None = None,
        owner: int = 0,
        port: int = 8000,
        platform: FakePlatform | None = None,
        network: str = "",
    ) -> None:
        self.name = f"codex-workspace-test-{uuid.uuid4().hex[:10]}"
        self._image = image
        self._config = config
        self._env: dict[str, str] = {"WORKSPACE_ID": "test", "PLATFORM_URL": "off", "STANDIN_KEY": API_KEY}
        self._published = ""
        if platform is not None:
            # The platform dials the same port after each start, as it does where an address is given.
            self._published = "" if network else str(free_port())
            url = f"http://localhost:{self._published}"
            self._env |= {"WORKSPACE_ID": platform.self_id, "PLATFORM_URL": platform.url}
            self._env |= {"MOLECULE_WORKSPACE_URL": url} if self._published else {}
        self._env |= env or {}
        self._network = network
        self._files = files or {}
        self._options = options
        self._volumes = {f"{self.name}{re.sub('[/:]', '-', mount)}": mount for mount in mounts}
        self._home_files = home_files or {}
        self._owner = owner
        self._inside_port = port
        self.url = ""
        self.http = httpx.AsyncClient()
        self._of_clients: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        try:
            await self._create()
            await self.put("/configs", {"config.yaml": self._config, **self._files}, self._owner)
            if self._home_files:
                await self.put("/home/agent", self._home_files, _AGENT_UID)
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if kind is not None:
            # Shown with a test that failed, and with no other.
            print(await docker("logs", self.name, check=False))
        for http in (self.http, *self._of_clients):
            await http.aclose()
        await docker("rm", "--force", self.name, check=False)
        await docker("volume", "rm", "--force", *self._volumes)

    async def _create(self) -> None:
        volumes = [f"--volume={volume}:{mount}" for volume, mount in self._volumes.items()]
        variables = [f"--env={name}={value}" for name, value in self._env.items()]
        publish = f"--publish=127.0.0.1:{self._published}:{self._inside_port}"
        network = f"--network=container:{self._network}" if self._network else publish
        # The image's own health check, asked for more often than every 30 s.
        own = ("--name", self.name, network, "--health-interval=1s")
        await docker("create", *own, *volumes, *variables, *self._options, self._image)

    async def put(self, directory: str, files: Mapping[str, str], owner: int) -> None:
        """Write `files` (text by relative path) below `directory`, both owned by `owner`."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            parents = {str(parent) for path in files for parent in _parents(path)}
            for parent in sorted(parents):
                entry = tarfile.TarInfo(parent)
                entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, owner, owner
                tar.addfile(entry)
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                content = text.encode()
                # The platform leaves what begins with a dot, its tokens, to their owner alone.
                mode = 0o600 if path.startswith(".") else 0o644
                entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
                tar.addfile(entry, io.BytesIO(content))
        volume = next((name for name, mount in self._volumes.items() if mount == f"{directory}:ro"), None)
        if volume is None:
            await docker("cp", "-", f"{self.name}:{directory}", stdin=archive.getvalue())
            return
        # Nothing is copied into what a container cannot write, so another one does it.
        other = f"{self.name}-writer"
        await docker("create", "--name", other, f"--volume={volume}:{directory}", self._image)
        try:
            await docker("cp", "-", f"{other}:{directory}", stdin=archive.getvalue())
        finally:
            await docker("rm", "--force", other)

    async def start(self) -> None:
        """Start it and wait until it serves; the published port is another one each time."""
        await docker("start", self.name)
        await self.http.aclose()
        publisher = self._network or self.name
        published = (await docker("port", publisher, f"{self._inside_port}/tcp")).splitlines()[0]
        self.url = f"http://{published}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE)
        await until(self._serves, "the workspace serves")

    async def recreate(self, **env: str | None) -> None:
        """Another container on the same volumes, as after an upgrade of the image.

        `env` changes the variables, None takes one away.
        """
        changed = {**self._env, **env}
        self._env = {name: value for name, value in changed.items() if value is not None}
        await docker("rm", "--force", self.name)
        await self._create()
        await self.start()

    async def restart(self) -> None:
        """End it at once, and start it again."""
        await docker("kill", self.name, check=False)
        await self.start()

    async def _serves(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            await self.http.get("/healthz")
            return True
        if not (await self.state())["Running"]:
            raise AssertionError(f"it ended: {await self.logs()}")
        return False

    async def says(self, words: str) -> str:
        """Wait until it has logged a line with `words`; returns the whole log."""

        async def said() -> bool:
            return words in await self.logs()

        await until(said, f"it says {words!r}")
        return await self.logs()

    async def state(self) -> dict[str, Any]:
        """The engine's word on the container: Running, ExitCode, Health."""
        state: dict[str, Any] = json.loads(await docker("inspect", self.name, "--format", "{{json .State}}"))
        return state

    async def logs(self) -> str:
        """All that it has logged."""
        return await docker("logs", self.name)

    async def sh(self, script: str, user: str = "root") -> str:
        """What a shell script prints inside, stripped."""
        return (await docker("exec", "--user", user, self.name, "sh", "-c", script)).strip()

    async def processes(self) -> list[tuple[int, str]]:
        """(uid, command line) of the first process and its living descendants, and so no health check."""
        table = await docker("top", self.name, "-eo", "pid,ppid,uid,args")
        rows = [row.split(None, 3) for row in table.splitlines()[1:]]
        family = {str((await self.state())["Pid"])}
        for _ in rows:
            family |= {pid for pid, parent, *_ in rows if parent in family}
        return [(int(uid), args) for pid, _, uid, args in rows if pid in family]

    async def dead(self) -> list[str]:
        """Names of the processes inside that ended and that nobody has waited for; the engine hides them."""
        return (
            await self.sh("sed -n 's/^[0-9]* (\\(.*\\)) Z .*/\\1/p' /proc/[0-9]*/stat 2>&-; true")
        ).split()

    async def kill_codex(self) -> None:
        """SIGKILL to codex and to nothing else."""
        await self.sh("for p in /proc/[0-9]*; do grep -qsx codex $p/comm && kill -9 ${p#/proc/}; done; true")

    async def client(self, version: str = "1.0") -> Client:
        """The SDK's own client, which was shown the card of one dialect only and so speaks that one."""
        # One HTTP client each: the SDK leaves its A2A-Version on the one that it is given.
        http = httpx.AsyncClient(timeout=PATIENCE)
        self._of_clients.append(http)
        factory = ClientFactory(ClientConfig(httpx_client=http))
        return await factory.create_from_url(
            self.url, resolver_http_kwargs={"headers": {"A2A-Version": version}}
        )

    async def answer(self, text: str, version: str = "1.0") -> str:
        """Send `text` and return the answer, which must be a success."""
        return await send(await self.client(version), text).completed()

    async def curl(self, path: str = "/", *options: str, body: Mapping[str, Any] | None = None) -> str:
        """What curl prints."""
        data = ("--header", "Content-Type: application/json", "--data", json.dumps(body)) if body else ()
        process = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--show-error", *options, *data, f"{self.url}{path}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()


def send(client: Client, text: str = "", parts: Sequence[Part] = ()) -> Sent:
    """Send a message through the SDK's client without waiting for anything."""
    message = Message(
        message_id=str(uuid.uuid4()),
        role=Role.ROLE_USER,
        parts=[*([Part(text=text)] if text else []), *parts],
    )
    sent = Sent()
    sent._reader = asyncio.create_task(_read(client, message, sent))
    return sent


async def _read(client: Client, message: Message, sent: Sent) -> None:
    try:
        async for event in client.send_message(SendMessageRequest(message=message)):
            async with sent._changed:
                sent.take(getattr(event, str(event.WhichOneof("payload"))))
                sent._changed.notify_all()
    except A2AClientError:
        # A container that ends takes the rest of a stream with it, but not what the client waits for.
        if not sent.is_over:
            raise


def _parents(path: str) -> list[str]:
    names = path.split("/")[:-1]
    return ["/".join(names[: number + 1]) for number in range(len(names))]
