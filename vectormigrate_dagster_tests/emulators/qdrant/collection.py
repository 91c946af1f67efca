"""One collection: its settings, its shards, and what is done to its points."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from qdrant_client import models
from qdrant_client.local.payload_filters import validate_filter
from qdrant_client.local.payload_value_extractor import value_by_key

from vectormigrate_dagster_tests.emulators.qdrant import operations as ops
from vectormigrate_dagster_tests.emulators.qdrant.collection_settings import CollectionSettings
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused, bad_input, bad_request
from vectormigrate_dagster_tests.emulators.qdrant.limits import StrictMode
from vectormigrate_dagster_tests.emulators.qdrant.optimizer import Optimizer
from vectormigrate_dagster_tests.emulators.qdrant.points import PointId, Row, check_form, place
from vectormigrate_dagster_tests.emulators.qdrant.shard import Shard

ShardKey = int | str


def spelled(key: ShardKey | None) -> str:
    """A shard key as refusals name it."""
    return json.dumps(key, ensure_ascii=False)


def _in(
    key: ShardKey | None, shard: Shard, found: Iterator[PointId]
) -> Iterator[tuple[PointId, ShardKey | None, Shard]]:
    return ((each, key, shard) for each in found)


@contextmanager
def local_errors() -> Iterator[None]:
    """What the in-memory engine raises, as a server says it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error)
        raise bad_input(text.removeprefix("Wrong input: ").removeprefix("Bad request: ")) from error


class Collection:
    """Points, divided by shard key if the collection is sharded by the user (key None otherwise)."""

    def __init__(self, name: str, request: models.CreateCollection) -> None:
        self.name = name
        self.settings = CollectionSettings(request)
        self.created_at = datetime.now(UTC)
        self.indexes: dict[str, models.PayloadSchemaParams | models.PayloadSchemaType] = {}
        self.strict = StrictMode(lambda: self.settings.strict, lambda: set(self.indexes))
        self.optimizer = Optimizer()
        self._operations = itertools.count()
        self.shards: dict[ShardKey | None, Shard] = {} if self.custom else {None: self._shard()}

    @property
    def custom(self) -> bool:
        """Whether the user says which shard a point is in."""
        return self.settings.params.sharding_method is models.ShardingMethod.CUSTOM

    def _shard(self) -> Shard:
        params = self.settings.params
        request = models.CreateCollection(vectors=params.vectors or {}, sparse_vectors=params.sparse_vectors)
        return Shard(request, self.indexes)

    # Shard keys

    def create_shard_key(self, key: ShardKey) -> None:
        if not self.custom:
            raise bad_request("Shard Key cannot be created with Auto sharding method")
        if key in self.shards:
            raise bad_request(f"Shard key {spelled(key)} already exists")
        self.shards[key] = self._shard()

    def delete_shard_key(self, key: ShardKey) -> None:
        if not self.custom:
            raise bad_request("shard key cannot be removed with Auto sharding method")
        if self.shards.pop(key, None) is None:
            raise bad_request(f"Shard key {spelled(key)} does not exist for collection {self.name}")

    def to_read(self, keys: Sequence[ShardKey] | None) -> dict[ShardKey | None, Shard]:
        """The shards that a read looks at: all, if it names none."""
        return self.shards if keys is None else {key: self._named(key, bad_request) for key in keys}

    def _to_write(self, operation: ops.Operation) -> dict[ShardKey | None, Shard]:
        if operation.shard_keys is None:
            if self.custom:
                raise bad_input("Shard key not specified")
            return self.shards
        if not operation.shard_keys:
            raise bad_input("Empty shard keys selection")
        return {key: self._named(key, bad_input) for key in operation.shard_keys}

    def _named(self, key: ShardKey, error: Any) -> Shard:
        if key is None or key not in self.shards:
            raise error(f"Shard key {spelled(key)} not found")
        return self.shards[key]

    # Changes

    def check(self, operation: ops.Operation) -> None:
        """Find out what is wrong with a change before it is accepted, so that it is carried out whole or not at all."""
        cost = self._cost(operation)
        for key, shard in self._to_write(operation).items():
            if isinstance(operation, ops.Upsert | ops.UpdateVectors):
                shard.checked(operation.points)
            self.strict.spend("Write", key, cost)

    def _cost(self, operation: ops.Operation) -> int:
        if isinstance(operation, ops.Upsert | ops.UpdateVectors):
            if not operation.points:
                raise bad_request("Empty update request")
            check_form(operation.points)
            name = "upsert limit" if isinstance(operation, ops.Upsert) else "update limit"
            self.strict.limit("upsert_max_batchsize", len(operation.points), name)
            self.strict.room(self.count(None, None), self.vector_bytes(), self._payload_bytes)
            return len(operation.points)
        if isinstance(operation.selector, models.Filter):
            self.strict.filter(operation.selector, "unindexed_filtering_update")
            return self.count(operation.selector, operation.shard_keys)
        if not operation.selector:
            raise bad_request("Empty update request")
        return len(operation.selector)

    def apply(self, operation: ops.Operation) -> None:
        """Carry a change out in every shard that it is for.

        Raises:
            Refused: a point does not exist; the others have been changed.
        """
        shards = self._to_write(operation).values()
        missing: list[PointId] = []
        with local_errors():
            for shard in shards:
                try:
                    self._apply(operation, shard)
                except KeyError as error:
                    missing.append(error.args[0])
        # Of several shards it is enough if one has the point (lib/collection/src/collection/point_ops.rs).
        if missing and len(missing) == len(shards):
            raise Refused(Kind.NOT_FOUND, f"No point with id {missing[0]} found")

    def next_operation(self) -> int:
        """Number of a change."""
        return next(self._operations)

    def _apply(self, operation: ops.Operation, shard: Shard) -> None:
        match operation:
            case ops.Upsert():
                validate_filter(operation.update_filter)
                shard.store(shard.checked(operation.points), operation.update_filter, operation.mode)
            case ops.UpdateVectors():
                missing = shard.set_vectors(shard.checked(operation.points), operation.update_filter)
                if missing is not None:
                    raise KeyError(missing)
            case ops.Delete():
                shard.delete(operation.selector)
            case ops.DeleteVectors():
                shard.delete_vectors(operation.names, operation.selector)
            case ops.SetPayload():
                shard.set_payload(operation.payload, operation.selector, operation.key)
            case ops.OverwritePayload():
                shard.overwrite_payload(operation.payload, operation.selector)
            case ops.DeletePayload():
                shard.delete_payload(operation.keys, operation.selector)
            case ops.ClearPayload():
                shard.clear_payload(operation.selector)

    # Reads

    def count(self, condition: models.Filter | None, keys: Sequence[ShardKey] | None) -> int:
        with local_errors():
            validate_filter(condition)
            shards = self.to_read(keys).values()
            if condition is None:
                return sum(len(shard) for shard in shards)
            return sum(1 for shard in shards for _ in shard.ids_from(None, condition))

    def fetch(self, ids: Sequence[PointId], keys: Sequence[ShardKey] | None, payload: Any, vectors: Any) -> list[Row]:
        """The points that exist, in the order in which they were asked for; each once."""
        rows: dict[PointId, Row] = {}
        with local_errors():
            for key, shard in self.to_read(keys).items():
                for each in ids:
                    if each not in rows and shard.live(each) is not None:
                        rows[each] = self._row(key, shard, each, payload, vectors)
        return [rows[each] for each in dict.fromkeys(ids) if each in rows]

    def scroll(
        self,
        offset: PointId | None,
        limit: int,
        condition: models.Filter | None,
        keys: Sequence[ShardKey] | None,
        payload: Any,
        vectors: Any,
    ) -> tuple[list[Row], PointId | None]:
        """A page in the order of ids, each id once, and the first id of the next page."""
        with local_errors():
            validate_filter(condition)
            shards = self.to_read(keys)
            streams = [_in(key, shard, shard.ids_from(offset, condition)) for key, shard in shards.items()]
            rows: list[Row] = []
            for each, key, shard in heapq.merge(*streams, key=lambda entry: place(entry[0])):
                if rows and each == rows[-1].id:
                    continue
                if len(rows) == limit:
                    return rows, each
                rows.append(self._row(key, shard, each, payload, vectors))
            return rows, None

    @staticmethod
    def _row(key: ShardKey | None, shard: Shard, id: PointId, payload: Any, vectors: Any) -> Row:
        row = shard.row(id, payload, vectors)
        row.shard_key = key
        return row

    # Description

    def points_with(self, field: str) -> int:
        """How many points have a value in a payload field, which is what its index counts."""
        return sum(
            1
            for shard in self.shards.values()
            for slot, payload in enumerate(shard.payload)
            if not shard.deleted[slot] and any(v is not None for v in value_by_key(payload, field) or [])
        )

    def _payload_bytes(self) -> int:
        return sum(
            len(str(payload))
            for shard in self.shards.values()
            for slot, payload in enumerate(shard.payload)
            if not shard.deleted[slot]
        )

    def vector_bytes(self) -> int:
        """Size of all dense vectors, which decides when a server builds their index."""
        return sum(len(shard) * rows.shape[1] * 4 for shard in self.shards.values() for rows in shard.vectors.values())
