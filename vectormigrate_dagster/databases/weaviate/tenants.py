"""Which tenants can be read, and which of them are active only because of us.

Only an active tenant can be read or written: https://docs.weaviate.io/weaviate/manage-collections/tenant-states
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

from vectormigrate_dagster.databases.base import Sleep
from vectormigrate_dagster.databases.weaviate.wire import Wire
from vectormigrate_dagster.errors import DatabaseError, Unavailable

ACTIVE, INACTIVE = "ACTIVE", "INACTIVE"

_WORDS = {"HOT": ACTIVE, "COLD": INACTIVE, "FROZEN": "OFFLOADED", "FREEZING": "OFFLOADING", "UNFREEZING": "ONLOADING"}
"""What servers call the states, in today's words."""

_UPDATED_AT_ONCE = 100
"""Tenants in one request: usecases/schema/tenant.go."""

_SHOWN = 5
_POLL_SECONDS = 0.1
_POLLS = 300


class Tenants:
    """The tenants of one collection.

    Args:
        collection: its name.
        where: the same for people.
        may_activate: inactive ones may be made active, to be made inactive again by `put_back`.
    """

    def __init__(self, collection: str, where: str, *, may_activate: bool) -> None:
        self._collection, self._where, self._may_activate = collection, where, may_activate
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._owed: set[str] = set()

    def states(self, wire: Wire, names: Collection[str] | None = None) -> dict[str, str]:
        """The state of each tenant that there is, of `names` or of all."""
        from weaviate.proto.v1 import tenants_pb2

        asked = None if names is None else tenants_pb2.TenantNames(values=names)
        reply = wire.call("TenantsGet", tenants_pb2.TenantsGetRequest(collection=self._collection, names=asked))
        prefix = "TENANT_ACTIVITY_STATUS_"
        words = {one.name: tenants_pb2.TenantActivityStatus.Name(one.activity_status) for one in reply.tenants}
        plain = {name: word.removeprefix(prefix) for name, word in words.items()}
        return {name: _WORDS.get(word, word) for name, word in plain.items()}

    def require_active(self, wire: Wire, names: Sequence[str], sleep: Sleep) -> None:
        """Have these tenants active, which there are; asks once for each, until `forget`.

        Raises:
            DatabaseError: some are not active, and may or can not be made so.
        """
        with self._lock:
            unknown = [name for name in names if name not in self._known]
            if not unknown:
                return
            states = self.states(wire, unknown)
            inactive = sorted(name for name, state in states.items() if state == INACTIVE)
            others = sorted(name for name, state in states.items() if state not in (ACTIVE, INACTIVE))
            if others:
                raise DatabaseError(
                    f"tenants of {self._where} are {', '.join(sorted({states[name] for name in others}))} "
                    f"and cannot be read: {_listed(others)}; bring them back (state ACTIVE), or name others in 'scopes'"
                )
            if inactive:
                self._activate(wire, inactive, sleep)
            self._known.update(states)

    def exists(self, wire: Wire, name: str) -> bool:
        """Whether there is such a tenant; one that is there is asked for once."""
        return name in self._known or name in self.states(wire, [name])

    def create(self, wire: Wire, name: str) -> None:
        """Create an active tenant."""
        wire.rest("POST", "schema", self._collection, "tenants", body=[{"name": name}])

    def forget(self) -> None:
        """Ask again which tenants are active: somebody else has changed that."""
        with self._lock:
            self._known.clear()

    @property
    def owes(self) -> bool:
        """Whether there is something to put back."""
        return bool(self._owed)

    def put_back(self, wire: Wire) -> None:
        """Make inactive again what was so before `require_active`."""
        with self._lock:
            # One that somebody has deleted meanwhile would have the whole request refused.
            there = self.states(wire, sorted(self._owed)) if self._owed else {}
            self._set(wire, sorted(name for name, state in there.items() if state == ACTIVE), INACTIVE)
            self._known -= self._owed
            self._owed.clear()

    def _activate(self, wire: Wire, names: Sequence[str], sleep: Sleep) -> None:
        if not self._may_activate:
            raise DatabaseError(
                f"tenants of {self._where} are inactive and cannot be read: {_listed(names)}; activate them, name "
                "others in 'scopes', or set options.activate_tenants to true: they are made inactive again afterwards"
            )
        # Owed before it is asked for: a request may be carried out though its answer is lost.
        self._owed.update(names)
        self._set(wire, names, ACTIVE)
        for _ in range(_POLLS):
            late = [name for name, state in self.states(wire, names).items() if state != ACTIVE]
            if not late:
                return
            sleep(_POLL_SECONDS)
        raise Unavailable(f"tenants of {self._where} do not become active: {_listed(late)}")

    def _set(self, wire: Wire, names: Sequence[str], state: str) -> None:
        for start in range(0, len(names), _UPDATED_AT_ONCE):
            part: list[dict[str, Any]] = [
                {"name": name, "activityStatus": state} for name in names[start : start + _UPDATED_AT_ONCE]
            ]
            wire.rest("PUT", "schema", self._collection, "tenants", body=part)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
