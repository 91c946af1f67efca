"""All collections of a server, and what clients may do with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from vectormigrate_dagster_tests.emulators.weaviate import schema
from vectormigrate_dagster_tests.emulators.weaviate.auto_schema import note
from vectormigrate_dagster_tests.emulators.weaviate.collection import Collection, object_id
from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused, not_found
from vectormigrate_dagster_tests.emulators.weaviate.gotext import upper_first
from vectormigrate_dagster_tests.emulators.weaviate.shard import StoredObject
from vectormigrate_dagster_tests.emulators.weaviate.values import is_reference
from vectormigrate_dagster_tests.emulators.weaviate.vectors import Given

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class NewObject:
    """An object that shall be stored."""

    class_name: str
    id: str | None
    tenant: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    vectors: Given = field(default_factory=dict)


def _one_at_a_time(method: F) -> F:
    @wraps(method)
    def work(self: Engine, *arguments: Any, **named: Any) -> Any:
        with self.lock:
            return method(self, *arguments, **named)

    return work  # type: ignore[return-value]  # the wrapper has the method's signature


class Engine:
    """Collections, aliases and objects, in memory.

    Args:
        modules: vectorizer modules that are switched on.
        auto_schema: whether the server declares classes and properties by itself.
        index_after: seconds until a vector index holds a new object.
        embeds: whether modules make vectors for objects that come without, or refuse them.
        async_indexing: whether vectors are indexed in the background.
    """

    def __init__(
        self, *, modules: tuple[str, ...], auto_schema: bool, index_after: float, embeds: bool, async_indexing: bool
    ) -> None:
        self._async_indexing = async_indexing
        self.lock = threading.RLock()
        self._modules = modules
        self._auto_schema = auto_schema
        self._index_after = index_after
        self._embeds = embeds
        self._collections: dict[str, Collection] = {}
        self._aliases: dict[str, str] = {}

    # Collections

    @_one_at_a_time
    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def find(self, name: str) -> Collection | None:
        """The collection of a name or an alias, its first letter in either case."""
        name = upper_first(name)
        return self._collections.get(self._aliases.get(name, name))

    def collection(self, name: str) -> Collection:
        """The collection of a name or an alias.

        Raises:
            Refused: there is none.
        """
        found = self.find(name)
        if found is None:
            raise Refused(f"could not find class {name} in schema")
        return found

    @_one_at_a_time
    def create(self, given: dict[str, Any]) -> dict[str, Any]:
        """Create a collection.

        Raises:
            Refused: it exists, or it is not possible.
        """
        definition = schema.complete(given, self._modules, async_indexing=self._async_indexing)
        self._must_be_new(definition["class"])
        self._must_point_somewhere(definition)
        self._collections[definition["class"]] = Collection(definition, self._index_after, embeds=self._embeds)
        return definition

    def _must_point_somewhere(self, definition: dict[str, Any]) -> None:
        kinds = [each["dataType"] for each in definition["properties"] if is_reference(each["dataType"])]
        known = {definition["class"], *self._collections}
        if any(name not in known for targets in kinds for name in targets):
            raise Refused("bad request: reference property to nonexistent class")

    def _must_be_new(self, name: str) -> None:
        for what, taken in (("class", self._collections), ("alias", self._aliases)):
            for other in taken:
                if other == name:
                    raise Refused(f"{what} name {name} already exists")
                if other.lower() == name.lower():
                    raise Refused(f'class already exists: found similar {what} "{other}"')

    @_one_at_a_time
    def update(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Change the settings of a collection.

        Raises:
            Refused: there is none, or it changes what cannot be changed.
        """
        found = self.find(name)
        if found is None:
            raise not_found()
        found.definition = schema.changed(found.definition, given, self._modules)
        return found.definition

    @_one_at_a_time
    def drop(self, name: str) -> None:
        """Delete a collection and all in it, but no alias; one that does not exist is passed over, so is an alias."""
        self._collections.pop(upper_first(name), None)

    @_one_at_a_time
    def add_property(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        found = self.find(name)
        if found is None:
            raise Refused(f'class "{upper_first(name)}": not found')
        kinds = given.get("dataType") or []
        if kinds and is_reference(kinds) and any(self.find(kind) is None for kind in kinds):
            why = "reference property to nonexistent class"
            raise Refused(f"property '{given.get('name')}': invalid dataType: [{' '.join(kinds)}]: {why}")
        return schema.add_property(found.definition, given)

    # Aliases

    @_one_at_a_time
    def aliases(self, target: str | None = None) -> dict[str, str]:
        """Aliases with the names of their collections."""
        return {alias: name for alias, name in self._aliases.items() if target in (None, name)}

    @_one_at_a_time
    def create_alias(self, alias: str, target: str) -> dict[str, str]:
        alias = self._alias_name(alias)
        target = self._target(target)
        if alias in self._aliases:
            raise Refused(
                f"validation: updating schema: TYPE_CREATE_ALIAS: create alias: {alias}, alias already exists"
            )
        if alias in self._collections:
            raise Refused(
                f"updating schema: TYPE_CREATE_ALIAS: create alias: class {alias} already exists", Kind.INTERNAL
            )
        self._aliases[alias] = target
        return {"alias": alias, "class": target}

    @_one_at_a_time
    def update_alias(self, alias: str, target: str) -> dict[str, str]:
        alias = upper_first(alias)
        if alias not in self._aliases:
            raise not_found()
        self._aliases[alias] = self._target(target)
        return {"alias": alias, "class": self._aliases[alias]}

    @_one_at_a_time
    def delete_alias(self, alias: str) -> None:
        if self._aliases.pop(upper_first(alias), None) is None:
            raise not_found()

    def _alias_name(self, alias: str) -> str:
        try:
            return schema.class_name(alias, "alias")
        except Refused as error:
            raise Refused(f"validation: {error}") from error

    def _target(self, name: str) -> str:
        name = upper_first(name)
        if name not in self._collections:
            raise Refused(f'validation error: target class "{name}" does not exist')
        return name

    # Objects

    @_one_at_a_time
    def insert(self, new: NewObject) -> StoredObject:
        """Store an object whose id is not there yet.

        Raises:
            Refused: it is there, or the object does not fit.
        """
        if self.find(new.class_name) is not None and self.exists(new.class_name, object_id(new.id), new.tenant):
            raise Refused(f"id '{new.id}' already exists")
        return self.put(new, prefix="invalid object: ")

    @_one_at_a_time
    def put(self, new: NewObject, prefix: str = "") -> StoredObject:
        """Store an object; one of the same id is replaced.

        Raises:
            Refused: the object does not fit.
        """
        key = object_id(new.id)
        try:
            found = self._prepared(new)
            content = found.checked(new.properties, new.vectors, lambda c, i: self.exists(c, i, new.tenant))
        except Refused as error:
            raise Refused(f"{prefix}{error}") from error
        return found.store(key, new.tenant, content)

    @_one_at_a_time
    def replace(self, new: NewObject) -> StoredObject:
        """Replace an object that is there.

        Raises:
            Refused: it is not there, or it does not fit.
        """
        if self._existing(new.class_name).shard(new.tenant).get(object_id(new.id)) is None:
            raise not_found()
        return self.put(new, prefix="invalid object: ")

    @_one_at_a_time
    def merge(self, new: NewObject) -> None:
        """Change some properties and vectors of an object.

        Raises:
            Refused: it is not there, or the change does not fit.
        """
        found, key = self._existing(new.class_name), object_id(new.id)
        if found.shard(new.tenant).get(key) is None:
            raise not_found()
        if self._auto_schema:
            found.declare(new.properties)
        found.merge(key, new.tenant, new.properties, new.vectors, lambda c, i: self.exists(c, i, new.tenant))

    @_one_at_a_time
    def delete(self, class_name: str, id: str, tenant: str) -> None:
        """Delete an object; one that is not there is passed over.

        Raises:
            Refused: there is no such collection or tenant.
        """
        found = self.find(class_name)
        if found is None:
            why = f"delete from non-existing index for {upper_first(class_name)}"
            raise Refused(f"could not delete object from vector repo: {why}", Kind.INTERNAL)
        found.writable(tenant).delete(object_id(id))

    @_one_at_a_time
    def exists(self, class_name: str, id: str, tenant: str) -> bool:
        """Whether there is an object; of any class if none is named, with the tenant or without one."""
        found = [self.find(class_name)] if class_name else self.collections()
        for each in found:
            if each is None:
                continue
            if each.has_tenants and each.tenants.get(tenant) != "HOT":
                continue
            if each.shard(tenant if each.has_tenants else "").get(id) is not None:
                return True
        return False

    def _existing(self, name: str) -> Collection:
        found = self.find(name)
        if found is None:
            raise Refused(f'class "{upper_first(name)}" not found in schema')
        return found

    def _prepared(self, new: NewObject) -> Collection:
        """The collection of an object, which the server may create, and extend by what the object has."""
        found = self.find(new.class_name)
        if found is None:
            if not self._auto_schema:
                raise Refused(f"class '{upper_first(new.class_name)}' not present in schema")
            self._by_itself({"class": new.class_name, "description": note()})
            found = self.collection(new.class_name)
        if self._auto_schema:
            found.declare(new.properties)
        return found

    def _by_itself(self, given: dict[str, Any]) -> None:
        try:
            self.create(given)
        except Refused as error:
            raise Refused(f"auto-schema: create collection: {error}") from error
