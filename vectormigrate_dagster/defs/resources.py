"""Resources: what ops are given. Secrets are `EnvVar`s made here from the names in the migration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr, SecretStr

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig, Migration
from vectormigrate_dagster.databases import Database, Endpoint, Source
from vectormigrate_dagster.defs.lease import Lease


class DatabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its type parameter is its own class
    """A collection in a vector database. Opening is late: making the resource connects to nothing."""

    type: str = Field(description="pinecone, qdrant, weaviate or milvus")
    collection: str = Field(description="the collection's name")
    url: str | None = Field(default=None, description="address of a server")
    path: str | None = Field(default=None, description="folder of an embedded database")
    api_key: str | None = Field(default=None, description="key or token; an environment variable, never a literal")
    options: dict[str, Any] = Field(default_factory=dict, description="the database's own settings")

    @classmethod
    def of(cls, config: EndpointConfig) -> DatabaseResource:
        """The resource of one side of a migration file."""
        return cls(
            type=config.type,
            collection=config.collection,
            url=config.url,
            path=None if config.path is None else str(config.path),
            api_key=None if config.api_key_env is None else dg.EnvVar(config.api_key_env),
            options=config.options.model_dump(mode="json", exclude_unset=True),
        )

    def endpoint(self) -> Endpoint:
        """Where the collection is, with its secret."""
        return Endpoint(
            type=self.type,
            collection=self.collection,
            url=self.url,
            path=None if self.path is None else Path(self.path),
            api_key=None if self.api_key is None else SecretStr(self.api_key),
            options=databases.options_of(self.type)(**self.options),
        )

    def open_source(self) -> Source:
        """Open the collection read-only; close it in `finally`."""
        return databases.open_source(self.endpoint())

    def open_target(self) -> Database:
        """Open the collection for reading and writing; close it in `finally`."""
        return databases.open_target(self.endpoint())


class WorkLease(dg.ConfigurableResource):  # type: ignore[type-arg]  # its type parameter is its own class
    """The lease of what a run works on; given back when the run ends."""

    _lease: Lease | None = PrivateAttr(default=None)

    def take(self, instance: dg.DagsterInstance, migration_id: str, what: str) -> None:
        """Take the lease, unless this run has it already.

        Raises:
            LeaseHeld: somebody else works on the same thing.
        """
        if self._lease is None:
            lease = Lease(instance, migration_id, what)
            lease.acquire()
            self._lease = lease

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        """Give the lease back."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None


def resources_of(migration: Migration) -> dict[str, Any]:
    """What every job of a migration is given."""
    return {
        "source": DatabaseResource.of(migration.source),
        "target": DatabaseResource.of(migration.target),
        "migration": dg.ResourceDefinition.hardcoded_resource(migration, description=f"migration '{migration.id}'"),
        "lease": WorkLease(),
    }
