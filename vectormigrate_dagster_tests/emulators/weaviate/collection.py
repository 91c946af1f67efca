"""A collection: its definition, its tenants, and the objects of each."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectormigrate_dagster_tests.emulators.weaviate import auto_schema, schema, values, vectors
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused, not_found
from vectormigrate_dagster_tests.emulators.weaviate.gotext import lower_first, parse_uuid
from vectormigrate_dagster_tests.emulators.weaviate.index_config import is_multi
from vectormigrate_dagster_tests.emulators.weaviate.shard import Shard, StoredObject

Content = tuple[dict[str, Any], dict[str, NDArray[np.float32]]]
"""Properties and vectors of an object, checked."""

Exists = Callable[[str, str], bool]
"""Whether there is an object: its class (empty for any) and its id."""

STATUSES = {"ACTIVE": "HOT", "INACTIVE": "COLD", "OFFLOADED": "FROZEN"}
"""Today's names of a tenant's states, which are only read, and those that the server writes."""


class Collection:
    """A class and what is in it.

    Args:
        definition: complete.
        index_after: seconds until the vector index holds a new object.
        embeds: whether a module makes vectors for objects that come without, or refuses them.
    """

    def __init__(self, definition: dict[str, Any], index_after: float, *, embeds: bool) -> None:
        self.definition = definition
        self.tenants: dict[str, str] = {}
        self._index_after = index_after
        self._embeds = embeds
        self._shards: dict[str, Shard] = {}
        if not self.has_tenants:
            only = uuid.uuid4().hex[:12]
            self._shards[only] = Shard(only)

    @property
    def name(self) -> str:
        return self.definition["class"]

    @property
    def has_tenants(self) -> bool:
        return self.definition["multiTenancyConfig"]["enabled"]

    def shards(self) -> list[Shard]:
        """Shards that are loaded: that of the collection, or those of its active tenants."""
        if not self.has_tenants:
            return list(self._shards.values())
        return [self._shards[name] for name, status in self.tenants.items() if status == "HOT"]

    # Tenants

    def shard(self, tenant: str, *, write: bool = False) -> Shard:
        """Where the objects of a tenant are.

        Raises:
            Refused: there is no such tenant, it is not active, or the collection has none.
        """
        if not self.has_tenants:
            if tenant:
                raise Refused(f"class {self.name} has multi-tenancy disabled, but request was with tenant")
            return next(iter(self._shards.values()))
        if not tenant:
            raise Refused(f"class {self.name} has multi-tenancy enabled, but request was without tenant")
        settings = self.definition["multiTenancyConfig"]
        if tenant not in self.tenants and write and settings["autoTenantCreation"]:
            self.add_tenants([{"name": tenant}])
        if tenant not in self.tenants:
            raise Refused(f'tenant not found: "{tenant}"')
        if self.tenants[tenant] == "COLD" and settings["autoTenantActivation"]:
            self.tenants[tenant] = "HOT"
        if self.tenants[tenant] != "HOT":
            raise Refused(f"tenant not active: '{tenant}'")
        return self._shards[tenant]

    def add_tenants(self, given: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Add tenants; one that exists stays as it is.

        Raises:
            Refused: a name or a state is not possible.
        """
        self.must_have_tenants()
        names = _tenant_names(given)
        states = [self._status(each, created=True) for each in given]
        for name, status in zip(names, states, strict=True):
            if name not in self.tenants:
                self.tenants[name] = status
                self._shards[name] = Shard(name)
        return [
            {**each, "activityStatus": status} if each.get("activityStatus") else each
            for each, status in zip(given, states, strict=True)
        ]

    def update_tenants(self, given: list[dict[str, Any]]) -> list[dict[str, str]]:
        """Change the states of tenants.

        Raises:
            Refused: there is no such tenant or state, or there are more than 100.
        """
        self.must_have_tenants()
        if len(given) > 100:
            raise Refused(
                "maximum number of tenants allowed to be updated simultaneously is 100. Please reduce the number of "
                "tenants in your request and try again"
            )
        names = _tenant_names(given)
        states = [self._status(each, created=False) for each in given]
        if missing := [name for name in names if name not in self.tenants]:
            raise Refused(f"updating schema: TYPE_UPDATE_TENANT: shard not found: {' '.join(missing)}")
        self.tenants.update(zip(names, states, strict=True))
        return [{"name": name, "activityStatus": self.tenants[name]} for name in names]

    def delete_tenants(self, names: Iterable[str]) -> None:
        """Delete tenants with all they hold; those that do not exist are passed over."""
        self.must_have_tenants()
        for name in names:
            self.tenants.pop(name, None)
            self._shards.pop(name, None)

    def must_have_tenants(self) -> None:
        if not self.has_tenants:
            raise Refused(f'multi-tenancy is not enabled for class "{self.name}"')

    def _status(self, tenant: dict[str, Any], *, created: bool) -> str:
        given = tenant.get("activityStatus") or ("HOT" if created else "")
        status = STATUSES.get(given, given)
        if status not in STATUSES.values() or (created and status == "FROZEN"):
            raise Refused(f"invalid activity status '{status}' for tenant \"{tenant.get('name')}\"")
        return status

    # Objects

    def declare(self, properties: dict[str, Any]) -> None:
        """Add the properties that the server would declare by itself.

        Raises:
            Refused: a name or a value is not possible.
        """
        known = {each["name"].lower() for each in self.definition["properties"]}
        new = {name: value for name, value in properties.items() if lower_first(name).lower() not in known}
        for each in auto_schema.declared(new, self.name):
            try:
                schema.add_property(self.definition, each)
            except Refused as error:
                raise Refused(f"auto-schema: update collection: {error}") from error

    def checked(self, properties: dict[str, Any], given: vectors.Given, exists: Exists) -> Content:
        """The properties and vectors of an object in the form that is stored.

        Raises:
            Refused: the object does not fit the class.
        """
        vecs = vectors.accepted(self.definition, given)
        return values.stored(self.definition, properties, exists), vecs

    def writable(self, tenant: str) -> Shard:
        """Where objects of a tenant are stored.

        Raises:
            Refused: there is no such tenant, or its shard cannot be written.
        """
        shard = self.shard(tenant, write=True)
        if shard.read_only_because is not None:
            raise Refused(f"store is read-only due to: {shard.read_only_because}", Kind.INTERNAL)
        return shard

    def store(self, key: str, tenant: str, content: Content) -> StoredObject:
        """Store an object; one of the same id is replaced.

        Raises:
            Refused: its shard cannot be written, or its vectors are of other dimensions than those before.
        """
        shard = self.writable(tenant)
        properties, vecs = content
        vecs = vectors.embedded(self.definition, vecs, shard.dimensions, embeds=self._embeds)
        vectors.check_dimensions(key, vecs, shard.dimensions)
        ready = time.monotonic() + self._index_after if self._index_after else 0.0
        stored = StoredObject(key, properties, {name: vectors.wire(v) for name, v in vecs.items()}, indexed_at=ready)
        if before := shard.get(key):
            stored.created = before.created
        shard.put(stored)
        return stored

    def merge(self, key: str, tenant: str, properties: dict[str, Any], given: vectors.Given, exists: Exists) -> None:
        """Change some properties and vectors of an object; a property that is null is deleted.

        Raises:
            Refused: there is no such object, or the change does not fit the class.
        """
        before = self.writable(tenant).get(key)
        if before is None:
            raise not_found()
        new, vecs = self.checked(properties, given, exists)
        deleted = {lower_first(name) for name, value in properties.items() if value is None}
        kept = {name: value for name, value in before.properties.items() if name not in deleted}
        for each in self.definition["properties"]:  # references are added to those that are there
            name = each["name"]
            if values.is_reference(each["dataType"]) and name in new:
                new[name] = [*kept.get(name, []), *new[name]]
        configs = schema.vector_configs(self.definition)
        old = {name: vectors.rows(v, multi=is_multi(configs[name])) for name, v in before.vectors.items()}
        self.store(key, tenant, ({**kept, **new}, {**old, **vecs}))


def _tenant_names(given: list[dict[str, Any]]) -> list[str]:
    names: list[str] = []
    for position, each in enumerate(given):
        name = schema.tenant_name(each.get("name"), position)
        if name in names:
            raise Refused(f"tenant name {name} existed multiple times")
        names.append(name)
    return names


def object_id(given: str | None) -> str:
    """The id of an object; a new one if none is given.

    Raises:
        Refused: it is no UUID.
    """
    if not given:
        return str(uuid.uuid4())
    try:
        return str(parse_uuid(given))
    except ValueError as error:
        raise Refused(str(error)) from error
