"""`molecule-runtime`: loads ADAPTER_MODULE and serves its executor with what the SDK has."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
import yaml
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter

if TYPE_CHECKING:
    from starlette.requests import Request


def main_sync() -> None:
    """The console script."""
    asyncio.run(_serve())


async def _serve() -> None:
    directory = os.environ.get("WORKSPACE_CONFIG_PATH", "/configs")
    file = Path(directory) / "config.yaml"
    document: dict[str, Any] = yaml.safe_load(file.read_text()) if file.exists() else {}
    port = document.get("a2a", {}).get("port", 8000)
    adapter_class = importlib.import_module(os.environ["ADAPTER_MODULE"]).Adapter
    if not issubclass(adapter_class, BaseAdapter):
        sys.exit("Adapter is no BaseAdapter")
    config = AdapterConfig(
        model=document.get("model", ""),
        runtime_config=document.get("runtime_config", {}),
        config_path=directory,
        workspace_id=os.environ["WORKSPACE_ID"],
        prompt_files=document.get("prompt_files", []),
        a2a_port=port,
    )
    card = AgentCard(
        name=document.get("name", "Workspace"),
        description="A workspace",
        version="1.0.0",
        supported_interfaces=[AgentInterface(protocol_binding="JSONRPC", url=f"http://localhost:{port}")],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
    )
    routes: list[Any] = list(create_agent_card_routes(card))
    try:
        adapter = adapter_class()
        await adapter.setup(config)
        executor = await adapter.create_executor(config)
    except Exception as error:  # noqa: BLE001 (an adapter may raise anything; it is served)
        routes.append(Route("/", _not_configured(f"{type(error).__name__}: {error}"), methods=["POST"]))
    else:
        handler = DefaultRequestHandler(
            agent_executor=executor, task_store=InMemoryTaskStore(), agent_card=card
        )
        routes.extend(create_jsonrpc_routes(request_handler=handler, rpc_url="/", enable_v0_3_compat=True))
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), host="0.0.0.0", port=port, access_log=False)
    )
    await server.serve()


def _not_configured(reason: str) -> Any:
    async def answer(request: Request) -> JSONResponse:
        error = {"code": -32603, "message": "agent not configured", "data": reason}
        return JSONResponse({"jsonrpc": "2.0", "id": (await request.json()).get("id"), "error": error}, 503)

    return answer


if __name__ == "__main__":
    main_sync()
