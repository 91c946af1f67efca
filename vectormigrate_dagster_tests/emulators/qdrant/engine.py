"""What both faces of the stand-in work on: collections, aliases, and changes that are applied now or later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qdrant_client import models

from vectormigrate_dagster_tests.emulators.qdrant import operations as ops
from vectormigrate_dagster_tests.emulators.qdrant.collection import Collection, ShardKey
from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused, bad_input, bad_request
from vectormigrate_dagster_tests.emulators.qdrant.json_path import as_listed
from vectormigrate_dagster_tests.emulators.qdrant.points import PointId, Row, shard_keys, valid_id
from vectormigrate_dagster_tests.emulators.qdrant.search import query, scroll_by_value

_FORBIDDEN = frozenset('<>:"/\\|?*\0\x1f')
"""Characters that no collection's name may have."""


class Engine:
    """Collections in memory. Every method may be called by any thread; one at a time does something.

    Args:
        version: version of the server that is played; decides what it understands.
        distributed: whether shard keys can be created, which a server of its own refuses.
        apply_after: seconds between the acknowledgement of a change with `wait=false` and its application.
    """

    def __init__(self, version: str = "1.19.0", *, distributed: bool = True, apply_after: float = 0.02) -> None:
        self.version = version
        self.distributed = distributed
        self.apply_after = apply_after
        self.lock = threading.RLock()
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.lost: list[str] = []
        self._calling = threading.local()
        self._timers: set[threading.Timer] = set()

    def supports(self, *version: int) -> bool:
        """Whether the server that is played is of this version or later."""
        return tuple(int(part) for part in self.version.split(".")[:2]) >= version

    # Collections

    def collection(self, name: str) -> Collection:
        found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise Refused(Kind.NOT_FOUND, f"Collection `{name}` doesn't exist!")
        return found

    def create(self, name: str, request: models.CreateCollection) -> bool:
        with self.lock:
            for character in set(name) & _FORBIDDEN:
                raise Refused(
                    Kind.VALIDATION,
                    "Validation error in path parameters: "
                    f'[collection_name: collection name cannot contain "{character}" char]',
                )
            if name in self.collections:
                raise Refused(Kind.ALREADY_EXISTS, f"Collection `{name}` already exists!")
            if name in self.aliases:
                raise bad_input(f"Can't create collection with name {name}. Alias with the same name already exists")
            self.collections[name] = Collection(name, request)
            return True

    def delete(self, name: str) -> bool:
        with self.lock:
            real = self.aliases.get(name, name)
            self.aliases = {alias: target for alias, target in self.aliases.items() if target != real}
            return self.collections.pop(real, None) is not None

    def update_collection(self, name: str, change: models.UpdateCollection) -> bool:
        with self.lock:
            self.collection(name).settings.update(change)
            return True

    def info(self, name: str) -> models.CollectionInfo:
        with self.lock:
            collection = self.collection(name)
            points = collection.count(None, None)
            status, indexed = collection.optimizer.look(
                collection.settings.optimizer, collection.vector_bytes(), points
            )
            return models.CollectionInfo(
                status=status,
                optimizer_status=models.OptimizersStatusOneOf.OK,
                indexed_vectors_count=indexed * len(collection.settings.vectors()),
                points_count=points,
                segments_count=2 * len(collection.shards),
                update_queue=models.UpdateQueueInfo(length=len(self._timers)),
                config=collection.settings.config(),
                payload_schema={
                    field: models.PayloadIndexInfo(
                        data_type=index if isinstance(index, models.PayloadSchemaType) else index.type.value,
                        params=None if isinstance(index, models.PayloadSchemaType) else index,
                        points=collection.points_with(field),
                    )
                    for field, index in collection.indexes.items()
                },
                created_at=collection.created_at if self.supports(1, 20) else None,
            )

    def names(self) -> list[str]:
        with self.lock:
            return list(self.collections)

    def exists(self, name: str) -> bool:
        with self.lock:
            return self.aliases.get(name, name) in self.collections

    def cluster_info(self, name: str) -> models.CollectionClusterInfo:
        with self.lock:
            shards = [
                models.LocalShardInfo(
                    shard_id=i, shard_key=key, points_count=len(shard), state=models.ReplicaState.ACTIVE
                )
                for i, (key, shard) in enumerate(self.collection(name).shards.items())
            ]
            return models.CollectionClusterInfo(
                peer_id=1, shard_count=len(shards), local_shards=shards, remote_shards=[], shard_transfers=[]
            )

    # Aliases

    def aliases_of(self, name: str | None) -> dict[str, str]:
        """Alias to collection, of one collection or of all."""
        with self.lock:
            if name is not None:
                self.collection(name)
            return {alias: target for alias, target in self.aliases.items() if name in (None, target)}

    def change_aliases(self, operations: Iterable[Any]) -> bool:
        """Carry out operations up to the first that is refused."""
        with self.lock:
            for operation in operations:
                self._change_alias(self.aliases, operation)
            return True

    def _change_alias(self, aliases: dict[str, str], operation: Any) -> None:
        match operation:
            case models.CreateAliasOperation(create_alias=new):
                if new.collection_name not in self.collections:
                    raise Refused(Kind.NOT_FOUND, f"Collection `{new.collection_name}` doesn't exist!")
                if new.alias_name in self.collections:
                    raise Refused(Kind.ALREADY_EXISTS, f"Collection `{new.alias_name}` already exists!")
                aliases[new.alias_name] = new.collection_name
            case models.DeleteAliasOperation(delete_alias=old):
                aliases.pop(old.alias_name, None)
            case models.RenameAliasOperation(rename_alias=both):
                if both.old_alias_name not in aliases:
                    raise Refused(Kind.NOT_FOUND, f"Alias {both.old_alias_name} does not exists!")
                aliases[both.new_alias_name] = aliases.pop(both.old_alias_name)

    # Shard keys and payload indexes

    def create_shard_key(self, name: str, key: ShardKey) -> bool:
        with self.lock:
            self._only_distributed()
            self.collection(name).create_shard_key(key)
            return True

    def delete_shard_key(self, name: str, key: ShardKey) -> bool:
        with self.lock:
            self._only_distributed()
            self.collection(name).delete_shard_key(key)
            return True

    def shard_keys(self, name: str) -> list[ShardKey]:
        with self.lock:
            return [key for key in self.collection(name).shards if key is not None]

    def _only_distributed(self) -> None:
        if not self.distributed:
            raise Refused(Kind.STANDALONE, "Qdrant is running in standalone mode")

    def create_index(self, name: str, field: str, schema: Any) -> models.UpdateResult:
        with self.lock:
            collection = self.collection(name)
            if schema is None:
                raise bad_request("Can't auto-detect field type, please specify `field_schema` in the request")
            collection.indexes[as_listed(field)] = schema
            return self._done(collection)

    def delete_index(self, name: str, field: str) -> models.UpdateResult:
        with self.lock:
            collection = self.collection(name)
            collection.indexes.pop(as_listed(field), None)
            return self._done(collection)

    @staticmethod
    def _done(collection: Collection) -> models.UpdateResult:
        return models.UpdateResult(operation_id=collection.next_operation(), status=models.UpdateStatus.COMPLETED)

    # Changes to points

    def change(self, name: str, operations: Sequence[ops.Operation], *, wait: bool) -> list[models.UpdateResult]:
        """Apply changes one after the other, or only acknowledge them and apply them later.

        What fails later is lost: the client never hears of it; `lost` has the reasons.
        """
        with self.lock:
            collection = self.collection(name)
            return [self._change(collection, operation, wait) for operation in operations]

    def _change(self, collection: Collection, operation: ops.Operation, wait: bool) -> models.UpdateResult:
        collection.check(operation)
        lose = getattr(self._calling, "loses", False)
        if wait:
            self._apply(collection, operation, lose=lose)
            return models.UpdateResult(operation_id=collection.next_operation(), status=models.UpdateStatus.COMPLETED)
        self._later(lambda: self._apply(collection, operation, lose=lose))
        return models.UpdateResult(operation_id=collection.next_operation(), status=models.UpdateStatus.ACKNOWLEDGED)

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Let changes fail, of those that this thread asks for meanwhile, when they are applied."""
        self._calling.loses = True
        try:
            yield
        finally:
            self._calling.loses = False

    @staticmethod
    def _apply(collection: Collection, operation: ops.Operation, *, lose: bool) -> None:
        if lose:
            raise Refused(Kind.SERVICE, "the stand-in was told to fail when it applies this")
        collection.apply(operation)

    def _later(self, work: Callable[[], None]) -> None:
        def run() -> None:
            with self.lock:
                self._timers.discard(timer)
                try:
                    work()
                except Refused as error:
                    self.lost.append(str(error))

        timer = threading.Timer(self.apply_after, run)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()

    def close(self) -> None:
        """Forget what has been acknowledged and not applied."""
        with self.lock:
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()

    # Reads

    def count(self, name: str, request: models.CountRequest) -> int:
        with self.lock:
            collection, keys = self.collection(name), shard_keys(request.shard_key)
            collection.strict.filter(self._known(request.filter), "unindexed_filtering_retrieve")
            self._spend(collection, keys, 1)
            return collection.count(request.filter, keys)

    def fetch(self, name: str, request: models.PointRequest) -> list[Row]:
        with self.lock:
            collection, keys = self.collection(name), shard_keys(request.shard_key)
            ids = [valid_id(value) for value in request.ids]
            self._spend(collection, keys, len(ids))
            return collection.fetch(ids, keys, request.with_payload, request.with_vector)

    def scroll(self, name: str, request: models.ScrollRequest) -> tuple[list[Row], PointId | None]:
        limit = _limit(request.limit, "scroll_request.limit")
        with self.lock:
            collection, keys = self.collection(name), shard_keys(request.shard_key)
            collection.strict.limit("max_query_limit", request.limit, "limit")
            collection.strict.filter(self._known(request.filter), "unindexed_filtering_retrieve")
            self._spend(collection, keys, 1)
            if request.order_by is not None:
                return scroll_by_value(collection, request, limit), None
            offset = None if request.offset is None else valid_id(request.offset)
            payload = True if request.with_payload is None else request.with_payload
            return collection.scroll(offset, limit, request.filter, keys, payload, request.with_vector)

    def query(self, name: str, requests: Sequence[models.QueryRequest]) -> list[list[Row]]:
        with self.lock:
            collection = self.collection(name)
            collection.strict.limit("search_max_batchsize", len(requests), "search batch size")
            for request in requests:
                _limit(request.limit, "internal.limit")
                self._known(request.filter)
                collection.strict.query(request)
                self._spend(collection, shard_keys(request.shard_key), 1)
            return [query(collection, request) for request in requests]

    @staticmethod
    def _spend(collection: Collection, keys: Sequence[ShardKey] | None, cost: int) -> None:
        for key in collection.to_read(keys):
            collection.strict.spend("Read", key, cost)

    def _known(self, condition: models.Filter | None) -> models.Filter | None:
        """A filter, if the server that is played understands it."""
        if condition is not None and not self.supports(1, 19) and "'slice'" in str(condition.model_dump()):
            raise Refused(
                Kind.FORMAT, "Format error in JSON body: data did not match any variant of untagged enum Condition"
            )
        return condition


def _limit(value: int | None, field: str) -> int:
    if value is None:
        return 10
    if value < 0:
        raise Refused(Kind.FORMAT, f"Format error in JSON body: invalid value: integer `{value}`, expected usize")
    if value == 0:
        raise Refused(
            Kind.VALIDATION, f"Validation error in JSON body: [{field}: value 0 invalid, must be 1 or larger]"
        )
    return value
