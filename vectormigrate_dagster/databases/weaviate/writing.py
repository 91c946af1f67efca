"""How records are written: what Weaviate would change is refused, the rest is sent in requests of a fitting size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.columns import pieces
from vectormigrate_dagster.databases.protobuf import readable
from vectormigrate_dagster.databases.weaviate.checking import misfits
from vectormigrate_dagster.databases.weaviate.connection import WeaviateConnection, ids_filter
from vectormigrate_dagster.databases.weaviate.object_writing import objects_of, request_of
from vectormigrate_dagster.databases.weaviate.records import empty_vectors, made_up, require_fit
from vectormigrate_dagster.databases.weaviate.values import beacon_of, beacons_of, by_name
from vectormigrate_dagster.errors import DatabaseError, SchemaMismatch, Unavailable
from vectormigrate_dagster.model import Batch, FieldType, IdColumn, ScopeKind, id_text

AT_ONCE = 1000
"""Ids in one filter; a server deletes at most QUERY_MAXIMUM_RESULTS (10,000) objects at once."""

_SHARE = 0.9
"""Of the largest message that is filled: its frame needs some room."""

_REFERENCES_AT_ONCE = 5000

_PAUSES = (0.1, 0.5)
"""Seconds before records are sent again that were refused for an unknown reason."""

Reasons = dict[int, str]
"""Row -> why it is refused."""


class WeaviateWriting(WeaviateConnection):
    """A Weaviate collection, as far as writing records goes."""

    def _write(self, batch: Batch) -> list[Refusal]:
        """Send what can be stored as it is; returns what cannot, or what the server refuses."""
        schema = self._schema
        require_fit(batch, schema)
        refused: Reasons = misfits(batch.payloads, schema.fields) | empty_vectors(batch) | made_up(batch, schema)
        rows = [row for row in range(len(batch)) if row not in refused]
        kept = batch.take(rows) if refused else batch
        refused |= {rows[i]: reason for i, reason in self._send(kept).items()}
        return [Refusal(id_text(batch.ids[row]), reason, batch.scope) for row, reason in sorted(refused.items())]

    def _send(self, batch: Batch) -> Reasons:
        """Write objects, and then their references: an object is refused if it points to one that is not there yet."""
        objects = objects_of(batch, self._schema, self._name)
        refused: Reasons = {}
        for part in self._requests(objects, refused):
            refused |= self._put_again(objects, self._refusals(part, self._put([objects[row] for row in part])))
        lost = self._refer(batch, refused)
        if lost:
            # A record is written whole or not at all.
            self._delete(batch.ids.take(sorted(lost)), batch.scope)
        return refused | lost

    def _put_again(self, objects: Sequence[bytes], refused: Reasons) -> Reasons:
        """Send once more what was refused in words that we do not know; returns what is refused for good.

        Raises:
            Unavailable: the words are those of the server's storage, and stay: a fault of the server would otherwise
                leave out records with which nothing is wrong.
        """
        for pause in _PAUSES:
            rows = [row for row, reason in refused.items() if not self._blames_data(reason)]
            if not rows:
                return refused
            self.sleep(pause)
            again = self._put([objects[row] for row in rows])
            for reason in again.values():
                if (at_fault := self._of_text(reason)) is not None:
                    raise at_fault
            refused = {row: reason for row, reason in refused.items() if row not in rows}
            refused |= {rows[place]: reason for place, reason in again.items()}
        self._require_well(refused)
        return refused

    def _require_well(self, refused: Reasons) -> None:
        """Check that no reason is one of the server's storage, which says nothing about a record."""
        if sick := next((reason for reason in refused.values() if self._blames_storage(reason)), None):
            raise Unavailable(f"{self.endpoint} cannot store some records: {sick}")

    def _put(self, objects: Sequence[bytes]) -> Reasons:
        """Write objects; returns what the server says of some of them."""
        from weaviate.proto.v1 import base_pb2, batch_pb2

        level = base_pb2.ConsistencyLevel.Value(f"CONSISTENCY_LEVEL_{self.options.write_consistency}")
        with self._client("write") as wire:
            answer = wire.octets("BatchObjects", request_of(objects, level))
        with readable("what became of objects"):
            reply = batch_pb2.BatchObjectsReply.FromString(answer)
        return {error.index: error.error for error in reply.errors}

    def _refer(self, batch: Batch, refused: Reasons) -> Reasons:
        """Write the references of objects that are there; returns which records were refused."""
        fields = by_name(self._schema.fields)
        if not any(field.type is FieldType.REFERENCE for field in fields.values()):
            return {}
        tenant = {} if batch.scope is None else {"tenant": batch.scope}
        references: list[dict[str, str]] = []
        rows: list[int] = []
        for row, (value, payload) in enumerate(zip(batch.ids.to_pylist(), batch.payloads, strict=True)):
            for name, beacon in beacons_of(payload, fields) if row not in refused else ():
                rows.append(row)
                references.append({"from": beacon_of(self._name, id_text(value), name), "to": beacon, **tenant})
        lost: Reasons = {}
        for start in range(0, len(references), _REFERENCES_AT_ONCE):
            part = slice(start, start + _REFERENCES_AT_ONCE)
            lost |= self._refusals(rows[part], self._put_references(references[part]))
        self._require_well(lost)
        return lost

    def _put_references(self, references: Sequence[dict[str, str]]) -> Reasons:
        """Write references; returns what the server says of some of them."""
        params = {"consistency_level": self.options.write_consistency}
        with self._client("write") as wire:
            answers = wire.rest("POST", "batch", "references", body=references, params=params)
        results = [answer["result"] for answer in answers]
        return {
            i: "; ".join(error["message"] for error in result["errors"]["error"])
            for i, result in enumerate(results)
            if result.get("status") == "FAILED"
        }

    def _requests(self, objects: Sequence[bytes], refused: Reasons) -> Iterator[list[int]]:
        """Rows of objects that fit into one message each time; one that fits into none is refused."""
        room = int(self._message_bytes * _SHARE)
        part: list[int] = []
        filled = 0
        for row, one in enumerate(objects):
            size = len(one)
            if size > room:
                refused[row] = f"it takes {size} bytes, and a message to this server holds {room}"
                continue
            if filled + size > room:
                yield part
                part, filled = [], 0
            part.append(row)
            filled += size
        if part:
            yield part

    def _refusals(self, rows: Sequence[int], errors: Reasons) -> Reasons:
        """Which rows of a request were refused.

        Args:
            rows: what the request was about.
            errors: what the server says, by the place in the request.

        Raises:
            DatabaseError: the server is at fault, for one of them or for all.
        """
        for reason in errors.values():
            if (at_fault := self._of_text(reason)) is not None:
                raise at_fault
        reasons = set(errors.values())
        if 1 < len(rows) == len(errors) and len(reasons) == 1 and not self._blames_data(*reasons):
            # Nobody has as many records that are wrong in the same way: the server is not well.
            raise Unavailable(f"{self.endpoint} refuses every record: {reasons.pop()}")
        return {rows[place]: reason for place, reason in errors.items()}

    def _delete(self, ids: IdColumn, scope: str | None) -> None:
        from weaviate.proto.v1 import base_pb2, batch_delete_pb2

        level = base_pb2.ConsistencyLevel.Value(f"CONSISTENCY_LEVEL_{self.options.write_consistency}")
        for part in pieces(ids, AT_ONCE):
            request = batch_delete_pb2.BatchDeleteRequest(
                collection=self._name, tenant=scope, filters=ids_filter(part), consistency_level=level
            )
            with self._on(scope, "write") as wire:
                reply = wire.call("BatchDelete", request)
            if reply.failed:
                raise DatabaseError(f"{self.endpoint} could not delete {reply.failed} of {reply.matches} records")

    def _require_place(self, scope: str | None) -> None:
        """Check that a scope is a tenant where there are tenants, and have one of that name that can be written to."""
        divided = self._schema.scope is ScopeKind.TENANT
        if divided and scope is None:
            raise SchemaMismatch(f"{self.endpoint} is divided into tenants, and these records belong to none")
        if not divided and scope is not None:
            raise SchemaMismatch(f"{self.endpoint} has no tenants, so there is no place for '{scope}'")
        if scope is not None and not self._has(scope):
            with self._client("create") as wire:
                self._tenants.create(wire, scope)
        with self._on(scope, "write"):
            pass
