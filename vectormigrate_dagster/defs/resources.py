"""Resources: what ops are given. Secrets are `EnvVar`s made here from the names in the migration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr, SecretStr

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig, Migration
from vectormigrate_dagster.databases import Database, Endpoint, Sleep, Source
from vectormigrate_dagster.defs.lease import Lease, run_lease


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

    def open_source(self, *, sleep: Sleep) -> Source:
        """Open the collection read-only; close it in `finally`. Where it waits, it waits by `sleep`."""
        return databases.open_source(self.endpoint(), sleep=sleep)

    def open_target(self, *, sleep: Sleep) -> Database:
        """Open the collection for reading and writing; close it in `finally`. Where it waits, it waits by `sleep`."""
        return databases.open_target(self.endpoint(), sleep=sleep)


class WorkLease(dg.ConfigurableResource):  # type: ignore[type-arg]  # its type parameter is its own class
    """The leases of a run, one that says it is alive and one of what it works on; given back when the run ends."""

    _run_id: str = PrivateAttr(default="")
    _leases: dict[str, Lease] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note which run this is."""
        self._run_id = "" if context.run is None else context.run.run_id

    def take(self, instance: dg.DagsterInstance, migration_id: str, what: str | None = None) -> None:
        """Take the lease of the run and of `what`, unless the run has them.

        Raises:
            LeaseHeld: somebody else works on the same thing.
        """
        for name in (run_lease(self._run_id), *(() if what is None else (what,))):
            if name not in self._leases:
                lease = Lease(instance, migration_id, name)
                lease.acquire()
                self._leases[name] = lease

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        """Give the leases back."""
        while self._leases:
            name, lease = self._leases.popitem()
            lease.release()
            if name == run_lease(self._run_id):
                lease.path.unlink(missing_ok=True)


def resources_of(migration: Migration) -> dict[str, Any]:
    """What every job of a migration is given."""
    return {
        "source": DatabaseResource.of(migration.source),
        "target": DatabaseResource.of(migration.target),
        "migration": dg.ResourceDefinition.hardcoded_resource(migration, description=f"migration '{migration.id}'"),
        "lease": WorkLease(),
    }
