"""What a handler of the REST face is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectormigrate_dagster_tests.emulators.weaviate.collection import Collection
from vectormigrate_dagster_tests.emulators.weaviate.engine import Engine
from vectormigrate_dagster_tests.emulators.weaviate.errors import not_found
from vectormigrate_dagster_tests.emulators.weaviate.service import Service

Answer = tuple[int, Any]
"""A status, and what the body says; None for no body."""


@dataclass(frozen=True)
class Request:
    """One request: what its path names, its query string, and its body."""

    service: Service
    path: dict[str, str]
    query: dict[str, str]
    body: Any

    @property
    def engine(self) -> Engine:
        return self.service.engine

    @property
    def tenant(self) -> str:
        return self.query.get("tenant", "")

    def collection(self) -> Collection:
        """The collection that the path names.

        Raises:
            Refused: there is none.
        """
        found = self.engine.find(self.path["name"])
        if found is None:
            raise not_found()
        return found
