"""The two servers of a run, and the faults that befall them: refusals, cut connections, answers that come late.

Stand-ins are told to fail. The real Milvus stands behind a proxy of the run's own, which cuts connections and swallows
answers.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import (
    MilvusOptions,
    PineconeOptions,
    QdrantOptions,
    WeaviateOptions,
)
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings as PineconeSettings
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateStandIn
from vectormigrate_dagster_tests.live.chaos.world import patient
from vectormigrate_dagster_tests.servers.milvus import Address
from vectormigrate_dagster_tests.servers.proxy import HOST, TcpProxy

STALE_SECONDS = 0.15
"""How long a write stays unseen where reads are eventually consistent."""


@dataclass(frozen=True)
class Pace:
    """How long calls of one database may take, in seconds; the bounds of the protocol follow.

    Args:
        timeout: of a call, by the client.
        delay: longest delay that is injected before a call does its work: longer than the client waits.
        stale: for how long a write may stay unseen.
    """

    timeout: float = 0.7
    delay: float = 0.9
    stale: float = 0.0

    def times(self, tempo: float) -> Pace:
        """One by which calls may take so many times as long."""
        return replace(self, timeout=self.timeout * tempo, delay=self.delay * tempo)


class Server(ABC):
    """One server of a run."""

    pace: Pace

    @abstractmethod
    def endpoint(self, collection: str) -> Endpoint:
        """A collection on it, through clients whose deadlines are those of the run."""

    @abstractmethod
    def misbehave(self, chance: random.Random) -> None:
        """Let one thing go wrong."""

    @abstractmethod
    def behave(self) -> None:
        """Let nothing more go wrong."""

    @abstractmethod
    def stop(self) -> None:
        """End it, as far as it is the run's own."""


@dataclass
class Played(Server):
    """A stand-in.

    Args:
        handle: it, running.
        where: a collection on it.
        writes, reads: names of the calls that faults are ordered for.
    """

    handle: Any
    where: Callable[[Any, str, float], Endpoint]
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    pace: Pace

    def endpoint(self, collection: str) -> Endpoint:
        return self.where(self.handle, collection, self.pace.timeout)

    def misbehave(self, chance: random.Random) -> None:
        """A refusal, a cut before or after the work, or a delay: some longer than the client waits."""
        method = chance.choice(self.writes + self.reads)
        what = chance.choice(("throttle", "throttle", "unavailable", "reset_before", "reset_after", "delay", "delay"))
        details: dict[str, Any] = {"nth": chance.randint(1, 4), "times": 1}
        if what == "throttle":
            details["retry_after"] = 0.05
        elif what == "delay":
            details["seconds"] = chance.choice((0.05, 0.2, self.pace.delay))
        self.handle.fault(what, method, **details)

    def behave(self) -> None:
        self.handle.clear_faults()

    def stop(self) -> None:
        self.handle.stop()


class Real(Server):
    """A real Milvus, through a proxy of the run's own; the server is shared."""

    def __init__(self, address: Address, pace: Pace) -> None:
        self.pace = pace
        self._address = address
        self._there: list[Endpoint] = []
        self._proxy = TcpProxy(int(address.url.rpartition(":")[2]))

    def endpoint(self, collection: str) -> Endpoint:
        options = MilvusOptions(database=self._address.database, timeout_s=self.pace.timeout)
        key = SecretStr(self._address.token) if self._address.token else None
        there = Endpoint(
            type="milvus", url=f"http://{HOST}:{self._proxy.port}", api_key=key, collection=collection, options=options
        )
        self._there.append(there)
        return there

    def misbehave(self, chance: random.Random) -> None:
        """Cut all connections, or let the next answer be lost after the work is done."""
        if chance.random() < 0.3:
            self._proxy.cut()
        else:
            self._proxy.swallow_replies()

    def behave(self) -> None:
        self._proxy.swallow_replies(0)

    def stop(self) -> None:
        """Drop what is on the server: each collection costs it time, also one that nobody uses."""
        for endpoint in self._there:
            with databases.open_target(patient(endpoint)) as database:
                database.drop()
        self._proxy.close()


def _qdrant(handle: QdrantStandIn, collection: str, timeout: float) -> Endpoint:
    options = QdrantOptions(grpc_url=handle.grpc_url, timeout_s=timeout)
    return Endpoint(type="qdrant", url=handle.url, collection=collection, options=options)


def _weaviate(handle: WeaviateStandIn, collection: str, timeout: float) -> Endpoint:
    options = WeaviateOptions(grpc_url=handle.grpc_url, timeout_s=timeout)
    return Endpoint(type="weaviate", url=handle.url, collection=collection.capitalize(), options=options)


def _pinecone(handle: PineconeStandIn, collection: str, timeout: float) -> Endpoint:
    options = PineconeOptions(grpc_url=handle.grpc_url, timeout_s=timeout, missing_s=0.5)
    key = SecretStr(handle.api_key)
    return Endpoint(type="pinecone", url=handle.url, api_key=key, collection=collection.lower(), options=options)


def start(type: str, milvus: Address | None, tempo: float = 1.0) -> Server:
    """A server of a type, for one run.

    Args:
        type: its type.
        milvus: the Milvus server, where one is needed.
        tempo: how many times as long as usual a call may take.
    """
    pace = Pace().times(tempo)
    if type == "qdrant":
        return Played(QdrantStandIn(), _qdrant, ("Upsert", "Delete"), ("Scroll", "Get"), pace)
    if type == "weaviate":
        return Played(WeaviateStandIn(), _weaviate, ("BatchObjects", "BatchDelete"), ("Search",), pace)
    if type == "pinecone":
        handle = PineconeStandIn(PineconeSettings(visible_after_seconds=STALE_SECONDS), grpc=True)
        return Played(handle, _pinecone, ("Upsert", "Delete"), ("List", "Fetch"), replace(pace, stale=STALE_SECONDS))
    assert milvus is not None
    return Real(milvus, Pace(timeout=3.0, delay=0.0).times(max(tempo, 1.0)))  # a busy one does not answer sooner
