"""What a route gets and gives: one request that was let in, and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.engine import Engine
from vectormigrate_dagster_tests.emulators.pinecone.errors import invalid
from vectormigrate_dagster_tests.emulators.pinecone.faults import Ordered
from vectormigrate_dagster_tests.emulators.pinecone.index import Index
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings

COMMITTED, INDEXED = "x-pinecone-request-lsn", "x-pinecone-max-indexed-lsn"
"""Headers: the number of a write in its namespace, and of the last write that a query saw."""


@dataclass(frozen=True)
class Answer:
    """A body in the form of JSON, and headers beside the usual ones."""

    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    limit: int | None = None


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        engine: all indexes.
        at: name of the index whose data plane was called; empty on the control plane.
        path: what the path names.
        query: the query string, each key with all its values.
        body: the parsed body; an empty object if there is none.
        ordered: the faults that concern it.
    """

    engine: Engine
    at: str
    path: dict[str, str]
    query: dict[str, list[str]]
    body: Any
    ordered: Ordered
    host: str

    @property
    def settings(self) -> Settings:
        return self.engine.settings

    def index(self, *, legacy: bool | None = None) -> Index:
        """The index that was called.

        Raises:
            Refused: another API serves it.
        """
        index = self.engine.serving(self.at)
        if legacy is not None and index.legacy is not legacy:
            name = "Vectors API" if legacy else "Documents API"
            kind = "a legacy vector index" if index.legacy else "a document index"
            raise invalid(f"Index {index.name} is {kind}, which the {name} does not serve")
        return index

    def one(self, key: str) -> str | None:
        """The last value of a key of the query string."""
        return self.query[key][-1] if key in self.query else None

    def committed(self, lsn: int) -> dict[str, str]:
        """Headers of the answer to a write."""
        return {COMMITTED: str(lsn)} if self.settings.lsn_headers else {}

    def indexed(self, lsn: int) -> dict[str, str]:
        """Headers of the answer to a query."""
        return {INDEXED: str(lsn)} if self.settings.lsn_headers else {}

    def known(self, *keys: str) -> dict[str, Any]:
        """The body, which has no other keys.

        Raises:
            Refused: it has, or it is no JSON object.
        """
        if not isinstance(self.body, dict):
            raise invalid("the request is no JSON object")
        if unknown := self.body.keys() - set(keys):
            raise invalid(f"unknown field '{min(unknown)}'")
        return self.body
