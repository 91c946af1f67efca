"""Who calls: what the guards found out and everything behind them may rely on."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["read", "write"]

PRINCIPAL = "vectormigrate.principal"
"""Under which key of the ASGI scope the caller stands."""


@dataclass(frozen=True)
class Principal:
    """A caller, without its key.

    Args:
        name: the name of its key.
        scope: "write" may do all that "read" may.
        masked: name and the first four digits of the key's digest, as audit lines and run tags show it.
    """

    name: str
    scope: Scope
    masked: str

    @property
    def may_write(self) -> bool:
        """Whether it may start, stop and change things."""
        return self.scope == "write"


LOCAL = Principal("local", "read", "local")
"""Whoever calls over HTTP while no key is set, which only a loopback address allows; may read."""


def set_principal(scope: MutableMapping[str, Any], principal: Principal) -> None:
    """Remember the caller of a request."""
    scope[PRINCIPAL] = principal


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """The caller of a request that came through the guards.

    Raises:
        KeyError: it did not.
    """
    principal = scope[PRINCIPAL]
    if not isinstance(principal, Principal):
        raise KeyError(PRINCIPAL)
    return principal
