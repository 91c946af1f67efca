"""What a call goes through on either face: the key, faults, limits, then the engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from vectormigrate_dagster_tests.emulators import faults, service
from vectormigrate_dagster_tests.emulators.qdrant.engine import Engine
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.qdrant.faults import REFUSALS, Fault, asks_for
from vectormigrate_dagster_tests.emulators.service import same_key

Result = TypeVar("Result")

READS = frozenset(
    {
        *("Get", "Scroll", "Count", "Query", "QueryBatch", "Search", "SearchBatch", "HealthCheck"),
        *("GetCollection", "ListCollections", "CollectionExists", "ListAliases", "ListCollectionAliases"),
        *("ListShardKeys", "CollectionClusterInfo", "ClusterStatus"),
    }
)
"""Methods that a read-only key may call."""

OPEN = frozenset({"HealthCheck"})
"""Methods that need no key."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server is set up.

    Args:
        version: version of the server that is played, which must be 1.x.
        api_key: key that may do everything; None for a server that asks for none.
        read_only_api_key: key that may only read.
        max_request_bytes: size above which the body of a REST request is refused; gRPC has no limit
            (src/actix/mod.rs and src/tonic/mod.rs of server 1.19).
        distributed: whether shard keys can be created (`cluster.enabled` of a real server).
        apply_after: seconds until a change with `wait=false` is applied.
        certificate, key: PEM files; both faces speak TLS if they are given.
    """

    version: str = "1.19.0"
    api_key: str | None = None
    read_only_api_key: str | None = None
    max_request_bytes: int = 32 * 1024 * 1024
    distributed: bool = True
    apply_after: float = 0.02
    certificate: str | None = None
    key: str | None = None


class Service(service.Service[Fault]):
    """One server: its engine, its faults and its keys."""

    fault_type = Fault

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.engine = Engine(settings.version, distributed=settings.distributed, apply_after=settings.apply_after)

    def report(self) -> dict[str, Any]:
        """What was ordered and called, and why changes failed that were acknowledged before."""
        return {**super().report(), "lost": list(self.engine.lost)}

    def admit(self, method: str, key: str | None) -> None:
        """Let a caller in.

        Raises:
            Refused: there is no key, it is wrong, or it may only read.
        """
        settings = self.settings
        if method in OPEN or (settings.api_key is None and settings.read_only_api_key is None):
            return
        if key is None:
            raise Refused(Kind.UNAUTHENTICATED, "Must provide an API key or an Authorization bearer token")
        if same_key(key, settings.api_key):
            return
        if not same_key(key, settings.read_only_api_key):
            raise Refused(Kind.UNAUTHENTICATED, "Invalid API key or JWT")
        if method not in READS:
            raise Refused(Kind.FORBIDDEN, "Global manage access is required")

    def call(self, method: str, work: Callable[[], Result], shuffle: Callable[[Result], Any]) -> Result:
        """Do the work of a method, with the faults that are ordered for this call.

        Raises:
            Refused: the call is refused.
            ConnectionCut: the connection shall end without an answer.
        """
        ordered = self.faults.of(method)
        faults.before(ordered, REFUSALS)
        with self.engine.losing() if asks_for(ordered, "fail_when_applied") else nullcontext():
            result = work()
        if asks_for(ordered, "wrong_order"):
            shuffle(result)
        faults.after(ordered)
        return result
