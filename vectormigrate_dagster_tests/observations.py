"""What became of records, told by reading both sides: by bits and by types, with no help of mapping or validation.

What is known here of a migration is what its documentation says: an id that had to change stands in `_source_id`, a
scope in `_source_scope`, values without a place of their own in `_source_json`, and names before in the marker.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vectormigrate_dagster.databases import Database, Refusal
from vectormigrate_dagster.mapping.loss import Grade, LossReport
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Element,
    Id,
    Metric,
    Multi,
    Packed,
    Payload,
    Sparse,
    VectorColumn,
    VectorKind,
    is_valid,
)

SOURCE_ID, SOURCE_SCOPE, SOURCE_JSON = "_source_id", "_source_scope", "_source_json"
SEVERITY = list(Grade)
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://vectormigrate.dev/ids")
"""The documented default namespace of made ids."""

INTENT = ("index", "quantization", "on_disk", "tenant", "required", "default")
"""What the report says beside what becomes of data: how a database is to find it, and what it will insist on."""

_ABSENT = object()
Vector = tuple[str, tuple[np.ndarray, ...]]
"""What its components are, and its arrays: values; for sparse ones indices and values."""


@dataclass(frozen=True)
class Record:
    """One record as a database gives it."""

    scope: str | None
    kind: str
    id: Id
    payload: Payload
    vectors: dict[str, Vector]

    @property
    def key(self) -> tuple[str | None, str]:
        """Scope and id, as text."""
        return self.scope, str(self.id)


def read(database: Database) -> list[Record]:
    """Every record of a collection; a default scope that is the only one is none."""
    default = database.capabilities.default_scope
    found = [
        record
        for split in database.plan_splits(10_000_000)
        for batch in database.scan(split, batch_records=1000)
        for record in records_of(batch)
    ]
    keys = Counter((record.scope, record.kind, record.id) for record in found)
    assert max(keys.values(), default=1) == 1, f"read twice: {[key for key, n in keys.items() if n > 1]}"
    if {record.scope for record in found} == {default}:
        return [Record(None, one.kind, one.id, one.payload, one.vectors) for one in found]
    return found


def records_of(batch: Batch) -> Iterator[Record]:
    """The records of a batch, one by one."""
    assert batch.vanished == ()
    for row, value in enumerate(batch.ids.to_pylist()):
        vectors = {name: _vector(column.take([row])) for name, column in batch.vectors.items() if is_valid(column)[row]}
        yield Record(batch.scope, batch.ids.kind.value, value, dict(batch.payloads[row]), vectors)


def _vector(column: VectorColumn) -> Vector:
    if isinstance(column, Packed):
        return column.element.value, (column.values[0],)
    if isinstance(column, Sparse):
        return "sparse", (column.indices, column.values)
    if isinstance(column, Multi):
        return "multi", (column.values,)
    return "float32", (column.values[0],)


def bits(vector: Vector | None) -> object:
    """A vector as something that is equal for equal types, shapes and bits."""
    return None if vector is None else (vector[0], [(a.dtype.str, a.shape, a.tobytes()) for a in vector[1]])


def as_float32(vector: Vector) -> Vector:
    """A vector of small components with every component as the float32 of the same value."""
    kind, (values, *_) = vector
    if kind == Element.BFLOAT16.value:
        return "float32", ((values.astype(np.uint32) << 16).view(np.float32),)
    assert kind in {Element.FLOAT16.value, Element.INT8.value, Element.UINT8.value}, kind
    return "float32", (values.astype(np.float32),)


def as_json(value: Any) -> str:
    """A value as text that differs for 1, 1.0 and True, for 0.0 and -0.0, and not for another order of keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


########
# One migration
########


@dataclass(frozen=True)
class Moved:
    """A migration that was run, and what is on both sides of it."""

    source: CollectionSchema
    target: CollectionSchema
    before: Sequence[Record]
    after: Sequence[Record]
    report: LossReport
    refused: Sequence[Refusal]


@dataclass
class Observed:
    """What became of things, by subject: `ids`, `scope`, `vector.NAME`, `vector.NAME.metric`, `field.KEY`.

    Args:
        grades: subject -> the worst that was seen of it.
        silent: differences that the report did not announce; there must be none.
    """

    grades: dict[str, Grade] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)

    def saw(self, subject: str, grade: Grade) -> None:
        """Note what became of something."""
        known = self.grades.get(subject, Grade.EXACT)
        self.grades[subject] = max(grade, known, key=SEVERITY.index)

    def of(self, *subjects: str) -> Grade:
        """The worst of some subjects."""
        return worst(self.grades.get(subject, Grade.EXACT) for subject in subjects)


def worst(grades: Iterable[Grade]) -> Grade:
    """The worst of some grades; exact if there are none."""
    return max(grades, key=SEVERITY.index, default=Grade.EXACT)


def announced(report: LossReport, subject: str) -> Grade:
    """The worst that a report says of a subject's data."""
    if subject.startswith("field.") or subject.endswith(".metric"):
        pattern = re.escape(subject) + r"(\.\w+)?"
    elif subject.startswith("vector."):
        pattern = re.escape(subject) + r"(\.(?!metric)\w+)?|vectors"
    else:
        pattern = re.escape(subject) + r"(\.\w+)*"
    rows = (row for row in report.rows if re.fullmatch(pattern, row.code, re.DOTALL))
    return worst(row.grade for row in rows if row.code.rpartition(".")[2] not in INTENT)


def observe(moved: Moved) -> Observed:
    """Compare both sides record by record, and each difference with what the report says about it."""
    found = Observed()
    come = _Return(moved)
    after = {come.key(record): record for record in moved.after}
    if len(after) != len(moved.after):
        found.silent.append("two records of the target come from one of the source")
    told = {(refusal.scope, refusal.id): refusal.reason for refusal in moved.refused}
    for record in moved.before:
        arrived = after.pop(record.key, None) or after.pop((None, str(record.id)), None)
        reason = told.get(record.key) or told.get((moved.source.scope.value and None, str(record.id)))
        if arrived is None and reason:
            _note_refusal(found, moved.report, record, reason)
        elif arrived is None or reason:
            found.silent.append(f"record {record.key} is {'there and refused' if reason else 'missing'}")
        else:
            _compare(found, come, record, arrived)
    found.silent += [f"record {key} comes from nowhere" for key in after]
    _compare_metrics(found, moved, come)
    for subject, grade in found.grades.items():
        said = announced(moved.report, subject)
        if SEVERITY.index(grade) > SEVERITY.index(said):
            found.silent.append(f"'{subject}' is {grade.value}, and the report says {said.value}")
    return found


def _note_refusal(found: Observed, report: LossReport, record: Record, reason: str) -> None:
    """A single record may be refused only where the report announces it as a loss, which the owner allowed."""
    lossy = [row for row in report.rows if row.grade is Grade.LOSSY]
    if not lossy or not all(row.allowed for row in lossy):
        found.silent.append(f"record {record.key} is refused ({reason}), which no row announces")
    for row in lossy:
        what = re.fullmatch(r"(ids|vector\..*|field\..*)\.\w+", row.code, re.DOTALL)
        found.saw(what[1] if what else row.code, Grade.LOSSY)


def _compare(found: Observed, come: _Return, record: Record, arrived: Record) -> None:
    _compare_ids(found, come, record, arrived)
    scope = come.scope(arrived)
    found.saw("scope", Grade.EXACT if arrived.scope == record.scope and not come.rescoped else Grade.WIDENED)
    if scope != record.scope:
        found.silent.append(f"record {record.key} is in scope {scope!r}")
    restored = come.payload(arrived)
    for key in sorted({*record.payload, *restored}):
        one, two = record.payload.get(key, _ABSENT), restored.get(key, _ABSENT)
        in_place = arrived.payload.get(key, _ABSENT)
        if _same(one, in_place):
            found.saw(f"field.{key}", Grade.EXACT)
        elif _same(one, two) or (_is_number_as_float(one, two) and come.says_float(key)):
            found.saw(f"field.{key}", Grade.WIDENED)
        elif not come.is_null_column(key, one, two):
            found.silent.append(f"'{key}' of {record.key} was {_shown(one)} and is {_shown(two)}")
    names = {come.vector_before(name): vector for name, vector in arrived.vectors.items()}
    for name in sorted({*record.vectors, *names}):
        _compare_vectors(found, come, record, name, names.get(name))


def _compare_ids(found: Observed, come: _Return, record: Record, arrived: Record) -> None:
    numbers = {"u64", "i64"}
    alike = arrived.kind == record.kind or {arrived.kind, record.kind} <= numbers
    exact = alike and arrived.id == record.id and SOURCE_ID not in come.added(arrived)
    found.saw("ids", Grade.EXACT if exact else Grade.WIDENED)
    if SOURCE_ID not in come.added(arrived):
        return
    kind, _, text = str(arrived.payload[SOURCE_ID]).partition(":")
    made = uuid.UUID(str(arrived.id))
    if (kind, text) != (record.kind, str(record.id)) or made.version != 5:
        found.silent.append(f"id {record.key} became {arrived.id} beside '{arrived.payload[SOURCE_ID]}'")
    plain = record.scope is None and record.kind == "text"
    if plain and not come.mixed and made != uuid.uuid5(NAMESPACE, text):
        found.silent.append(f"id '{text}' became {made}, which is not its documented UUIDv5")


def _compare_vectors(found: Observed, come: _Return, record: Record, name: str, there: Vector | None) -> None:
    subject, here = f"vector.{name}", record.vectors.get(name)
    if bits(here) == bits(there):
        given = come.vector_after(name)
        free = given == name or name in come.unnamed or come.vector_asked(name)
        found.saw(subject, Grade.EXACT if free else Grade.WIDENED)
        return
    if here is None or there is None:
        found.silent.append(f"vector '{name}' of {record.key} was {_shown(here)} and is {_shown(there)}")
        return
    if here[0] not in ("float32", "sparse", "multi") and bits(as_float32(here)) == bits(there):
        found.saw(subject, Grade.WIDENED)
        return
    (a,), (b,) = here[1], there[1]
    norm = float(np.linalg.norm(a.astype(np.float64)))
    declared = come.normalises(name) and np.allclose(a.astype(np.float64) / norm, b, atol=1e-6)
    if not declared:
        found.silent.append(f"vector '{name}' of {record.key} was {_shown(here)} and is {_shown(there)}")
    found.saw(subject, Grade.WIDENED if abs(norm - 1) < 1e-5 else Grade.LOSSY)


def _compare_metrics(found: Observed, moved: Moved, come: _Return) -> None:
    there = {come.vector_before(vector.name): vector for vector in moved.target.vectors}
    for vector in moved.source.vectors:
        if vector.name not in there:
            found.silent.append(f"vector '{vector.name}' is not in the target's schema")
            continue
        dots = vector.kind is VectorKind.SPARSE and {vector.metric, there[vector.name].metric} <= {None, Metric.DOT}
        same = vector.metric is there[vector.name].metric or dots
        found.saw(f"vector.{vector.name}.metric", Grade.EXACT if same else Grade.LOSSY)


class _Return:
    """The way back, as the documentation tells it: what stands in added fields, and names that the marker keeps."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self._marker = (moved.target.marker or {}).get("mapping", {})
        self._keys: dict[str, str] = self._marker.get("keys", {})
        self._shadowed = set(self._marker.get("shadowed", ()))
        self._declared = {one.name for one in moved.source.fields if one.declared}
        self.mixed = len(moved.source.ids.kinds) > 1
        self.unnamed = {"", "_values", "_sparse_values"}
        divided = moved.source.scope.value != "none" and any(record.scope is not None for record in moved.before)
        self.rescoped = divided and moved.source.scope is not moved.target.scope

    def added(self, record: Record) -> set[str]:
        """Fields of a target's record that are ours: those that no record of the source has."""
        own = {key for one in self._moved.before for key in one.payload}
        return ({SOURCE_ID, SOURCE_SCOPE, SOURCE_JSON} & record.payload.keys()) - own

    def key(self, record: Record) -> tuple[str | None, str]:
        """Scope and id of the record of the source that this one comes from."""
        text = str(record.id)
        if SOURCE_ID in self.added(record):
            text = str(record.payload[SOURCE_ID]).partition(":")[2]
        return self.scope(record), text

    def scope(self, record: Record) -> str | None:
        """The scope that the record was in."""
        kept = record.payload[SOURCE_SCOPE] if SOURCE_SCOPE in self.added(record) else record.scope
        return None if kept is None else str(kept)

    def payload(self, record: Record) -> Payload:
        """The payload as it was."""
        added = self.added(record)
        plain = {self._key(key): value for key, value in record.payload.items() if key not in added}
        inner = json.loads(record.payload[SOURCE_JSON]) if SOURCE_JSON in added else {}
        assert not inner.keys() & plain.keys()
        return {**plain, **inner}

    def _key(self, key: str) -> str:
        if key in self._keys:
            return self._keys[key]
        stem = key.rstrip("_")
        return key[:-1] if stem in self._shadowed and key != stem else key

    def says_float(self, key: str) -> bool:
        """Whether the report says that ints of a key become floats."""
        return any(row.code == f"field.{key}.float" for row in self._moved.report.rows)

    def is_null_column(self, key: str, before: Any, after: Any) -> bool:
        """Whether a declared column stands for an absent key by null, which the source could not tell apart either."""
        return key in self._declared and {before is None or before is _ABSENT, after is None or after is _ABSENT} == {
            True
        }

    def vector_before(self, name: str) -> str:
        """What a vector of the target was called in the source."""
        known = {vector.name for vector in self._moved.source.vectors}
        before = self._marker.get("vectors", {}).get(name, name)
        if before in known:
            return str(before)
        (column,) = [vector for vector in self._moved.target.vectors if vector.name == name]
        own = [vector.name for vector in self._moved.source.vectors if (vector.kind is column.kind)]
        free = [one for one in own if one in self.unnamed]
        return free[0] if len(free) == 1 else name

    def vector_after(self, name: str) -> str:
        """What a vector of the source is called in the target."""
        return next(v.name for v in self._moved.target.vectors if self.vector_before(v.name) == name)

    def vector_asked(self, name: str) -> bool:
        """Whether the report calls another name exact."""
        return announced(self._moved.report, f"vector.{name}") is Grade.EXACT and self.vector_after(name) == ""

    def normalises(self, name: str) -> bool:
        """Whether the report says that vectors get norm 1."""
        return any(row.code == f"vector.{name}.norm" for row in self._moved.report.rows)


def _same(one: Any, two: Any) -> bool:
    if one is _ABSENT or two is _ABSENT:
        return one is two
    return as_json(one) == as_json(two)


def _is_number_as_float(one: Any, two: Any) -> bool:
    """Whether an int became the float of the same value."""
    return type(one) is int and type(two) is float and abs(one) <= 2**53 and two == one


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)[:200]
