"""Which actions the roles of `config.yaml` allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molecule_runtime.config import RbacConfig

__all__ = ["allowed_actions"]

_ALL = frozenset({"delegate", "approve", "memory.read", "memory.write"})
_ROLES = {
    "admin": _ALL,
    "operator": _ALL,
    "read-only": frozenset({"memory.read"}),
    "memory-readonly": frozenset({"memory.read"}),
    "no-delegation": _ALL - {"delegate"},
    "no-approval": _ALL - {"approve"},
}


def allowed_actions(rbac: RbacConfig) -> frozenset[str]:
    """What the roles allow together. `allowed_actions` defines a role anew; unknown ones allow nothing."""
    granted: frozenset[str] = frozenset()
    for role in rbac.roles:
        granted |= frozenset(rbac.allowed_actions.get(role, _ROLES.get(role, frozenset())))
    return granted
