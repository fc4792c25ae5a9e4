"""The agent card in its three shapes: registered with the platform, served as 1.0, served as 0.3.

`GET /.well-known/agent-card.json` answers by the `A2A-Version` header of the request: `1.x` gets the 1.0
card and nothing else (strict 1.0 parsers refuse other keys), `0.x` the 0.3 card. Without the header both
kits ask there, so the answer is the 1.0 card plus the three top-level fields that a 0.3 client needs, which
the published 0.3 and 1.x kits both accept. `/.well-known/agent.json` is a path of the old dialect: always
the 0.3 card.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from a2a.compat.v0_3.conversions import to_compat_agent_card
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, HTTPAuthSecurityScheme
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from molecule_runtime.card_changes import changes
from molecule_runtime.proto import to_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from molecule_runtime.config import SkillConfig, WorkspaceConfig

__all__ = ["CardRoutes", "build_card", "card_v03", "card_v10", "registered_card"]

_HOST = re.compile(r"[A-Za-z0-9.\-_\[\]:]{1,255}")
_VERSIONS = ("1.0", "0.3")
OUTPUT_MODES = ("text/plain", "application/json")


def build_card(
    config: WorkspaceConfig, url: str, input_modes: Sequence[str], *, bearer: bool = False
) -> AgentCard:
    """The card as the SDK's type. It declares what is implemented, and push notifications are not; `bearer`
    where `POST /` asks for one.

    Raises TypeError or ValueError where a field does not exist or has the wrong type, so boot builds it
    first.
    """
    card = AgentCard(
        name=config.name,
        description=config.description or config.name,
        version=config.version,
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version=version)
            for version in _VERSIONS
        ],
        capabilities=AgentCapabilities(streaming=config.a2a.streaming, push_notifications=False),
        default_input_modes=list(input_modes),
        default_output_modes=list(OUTPUT_MODES),
        skills=[_skill(skill) for skill in config.skills] or [_default_skill(config)],
    )
    if bearer:
        scheme = HTTPAuthSecurityScheme(scheme="bearer", description="The token of this workspace.")
        card.security_schemes["bearer"].http_auth_security_scheme.CopyFrom(scheme)
        card.security_requirements.add().schemes["bearer"].SetInParent()
    return card


def registered_card(config: WorkspaceConfig, url: str, problem: str = "") -> dict[str, Any]:
    """The card in the body of `register`, `update-card` and the heartbeat; the platform dials its `url`."""
    card: dict[str, Any] = {
        "name": config.name,
        "description": config.description or config.name,
        "version": config.version,
        "url": url,
        "skills": [
            {"id": skill.id, "name": skill.name, "description": skill.description, "tags": list(skill.tags)}
            for skill in (_skill(item) for item in config.skills)
        ],
        "capabilities": {"streaming": config.a2a.streaming, "pushNotifications": False},
        "configuration_status": "not_configured" if problem else "ready",
    }
    if problem:
        card["configuration_error"] = problem
    return card | changes()


def card_v10(card: AgentCard) -> dict[str, Any]:
    """The card as 1.0 prescribes, with no other key."""
    document: dict[str, Any] = to_dict(card)
    return document


def card_v03(card: AgentCard) -> dict[str, Any]:
    """The card as 0.3 prescribes, with no other key."""
    return to_compat_agent_card(card).model_dump(mode="json", by_alias=True, exclude_none=True)


class CardRoutes:
    """Serves one card at both well-known paths."""

    def __init__(self, card: AgentCard, *, url_is_fixed: bool) -> None:
        self._card = card
        self._url_is_fixed = url_is_fixed

    def routes(self) -> list[Route]:
        """`/.well-known/agent-card.json` and the legacy `/.well-known/agent.json`."""
        return [
            Route("/.well-known/agent-card.json", self._current, methods=["GET"]),
            Route("/.well-known/agent.json", self._legacy, methods=["GET"]),
        ]

    async def _current(self, request: Request) -> Response:
        card = self._for(request)
        version = request.headers.get("a2a-version", "").strip()
        if version.startswith("0."):
            document = card_v03(card)
        elif version:
            document = card_v10(card)
        else:
            old = card_v03(card)
            document = card_v10(card) | {
                key: old[key] for key in ("url", "preferredTransport", "protocolVersion")
            }
        return JSONResponse(document, headers={"Vary": "A2A-Version"})

    async def _legacy(self, request: Request) -> Response:
        return JSONResponse(card_v03(self._for(request)))

    def _for(self, request: Request) -> AgentCard:
        """Where no URL was configured, the caller knows one that works: the one that it just used."""
        host = request.headers.get("host", "")
        if self._url_is_fixed or not _HOST.fullmatch(host):
            return self._card
        card = AgentCard()
        card.CopyFrom(self._card)
        for interface in card.supported_interfaces:
            interface.url = f"{request.url.scheme}://{host}/"
        return card


def _skill(skill: SkillConfig) -> AgentSkill:
    identifier = skill.id or re.sub(r"[^a-z0-9]+", "-", skill.name.lower()).strip("-") or skill.name
    return AgentSkill(
        id=identifier,
        name=skill.name,
        description=skill.description or skill.name,
        tags=skill.tags or [identifier],
    )


def _default_skill(config: WorkspaceConfig) -> AgentSkill:
    """Both dialects require at least one skill."""
    return AgentSkill(
        id="chat",
        name=config.role or "Chat",
        description=config.description or "Works on what it is asked to do and answers in text.",
        tags=["chat"],
    )
