"""Profile records: what they hold decides what the loss report says, not what types could hold."""

from __future__ import annotations

import math
import re
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vectormigrate_dagster.mapping.convert import widen
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile_models import FieldProfile, Profile, VectorProfile
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    Id,
    IdColumn,
    IdKind,
    Packed,
    Payload,
    Sparse,
    VectorColumn,
    is_valid,
)

UNIT_TOLERANCE = 1e-5
"""A norm this close to 1 is a unit vector: float32 embeddings of some thousand components differ by less."""

CANONICAL_UNSIGNED = r"^(0|[1-9][0-9]{0,19})$"
CANONICAL_SIGNED = r"^(0|-?[1-9][0-9]{0,18})$"
CANONICAL_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
MARKED_ID = re.compile(r"(u64|i64|uuid|text):", re.ASCII)
"""How the value of the original-id field starts; see `mapping.ids`."""

ODD_IDS = {"": r"^$", " ": r"[\x01-\x20\x7f]", "\0": r"\x00", "é": r"[^\x00-\x7f]"}
"""Example of what is unusual about a text id -> pattern of such ids."""

_TRACKED_FORMS = 200_000
_EXACT_DOUBLE = 2**53
_INT64 = (-(2**63), 2**63 - 1)


class Profiler:
    """Builds a profile from batches.

    Args:
        before: how payloads were before an earlier migration; fields are profiled as they were.
    """

    def __init__(self, before: Before | None = None) -> None:
        self._before = before or Before()
        self._profile = Profile()
        self._forms: dict[tuple[str | None, str], str] = {}
        self._scope_of: dict[tuple[IdKind, Id], str] = {}

    @property
    def records(self) -> int:
        """Records seen so far."""
        return self._profile.records

    def add(self, batch: Batch) -> None:
        """Take one batch into account."""
        profile = self._profile
        profile.records += len(batch)
        if batch.scope is not None:
            profile.scopes[batch.scope] = profile.scopes.get(batch.scope, 0) + len(batch)
        self._add_ids(batch.ids, batch.scope)
        for name, column in batch.vectors.items():
            _add_vector(profile.vectors.setdefault(name, VectorProfile()), column)
        for given in batch.payloads:
            payload = self._restored(given) if self._before.changes(given) else given
            size = 2
            for key, value in payload.items():
                field = profile.fields.get(key)
                if field is None:
                    field = profile.fields[key] = FieldProfile()
                size += len(key) + 4 + _add_value(field, value)
            profile.max_payload_bytes = max(profile.max_payload_bytes, size)

    def profile(self, *, complete: bool = False, total: int | None = None, seconds: float = 0.0) -> Profile:
        """The profile of everything added so far."""
        fields = {
            key: field.model_copy(update={"absent": self._profile.records - field.present}, deep=True)
            for key, field in sorted(self._profile.fields.items())
        }
        vectors = {
            name: vector.model_copy(update={"missing": self._profile.records - vector.present})
            for name, vector in self._profile.vectors.items()
        }
        known = self._profile.records if total is None else total
        update = {"fields": fields, "vectors": vectors, "complete": complete, "total": known, "seconds": seconds}
        return self._profile.model_copy(update=update)

    def _restored(self, payload: Payload) -> Payload:
        before, found = self._before, self._before.payload(payload)
        inner = (
            None if before.json_field is None else before.unpacked(before.json_field, payload.get(before.json_field))
        )
        if inner is not None:
            self._profile.unpacked += 1
            self._profile.repeated += len(found) < len(payload) - 1 + len(inner)
        return found

    def _add_ids(self, ids: IdColumn, scope: str | None) -> None:
        if len(ids) == 0:
            return
        stats = self._profile.ids
        stats.kinds[ids.kind] = stats.kinds.get(ids.kind, 0) + len(ids)
        if ids.kind is IdKind.UUID:
            stats.max_bytes = max(stats.max_bytes, 36)
        elif ids.kind is IdKind.TEXT:
            self._add_text_ids(ids)
        else:
            low, high = pc.min(ids.array).as_py(), pc.max(ids.array).as_py()
            stats.min_int = low if stats.min_int is None else min(stats.min_int, low)
            stats.max_int = high if stats.max_int is None else max(stats.max_int, high)
            stats.max_bytes = max(stats.max_bytes, len(str(low)), len(str(high)))
        self._find_collisions(ids, scope)
        if scope is not None:
            self._find_in_scopes(ids, scope)

    def _find_in_scopes(self, ids: IdColumn, scope: str) -> None:
        """Count ids that another scope has too, as long as there are few enough to remember."""
        stats = self._profile.ids
        if stats.in_scopes is None or len(self._scope_of) + len(ids) > _TRACKED_FORMS:
            stats.in_scopes = None
            return
        for value in ids.to_pylist():
            stats.in_scopes += self._scope_of.setdefault((ids.kind, value), scope) != scope

    def _add_text_ids(self, ids: IdColumn) -> None:
        stats = self._profile.ids
        texts: Any = ids.array
        stats.max_bytes = max(stats.max_bytes, pc.max(pc.binary_length(texts)).as_py())
        decimal = _matches(texts, CANONICAL_UNSIGNED)
        # Twenty digits may be beyond 64 bits.
        stats.unsigned += sum(int(text) < 2**64 for text in texts.filter(decimal).to_pylist())
        signed = _matches(texts, CANONICAL_SIGNED)
        stats.signed += sum(_INT64[0] <= int(text) <= _INT64[1] for text in texts.filter(signed).to_pylist())
        canonical = _matches(texts, CANONICAL_UUID)
        stats.uuids += int(pc.sum(canonical).as_py() or 0)
        for example, pattern in ODD_IDS.items():
            if count := int(pc.sum(_matches(texts, pattern)).as_py() or 0):
                stats.odd[example] = stats.odd.get(example, 0) + count
        rest = texts.filter(pc.invert(pc.or_(decimal, canonical)))
        stats.other_uuids += sum(_as_uuid(text) is not None for text in rest.to_pylist())

    def _find_collisions(self, ids: IdColumn, scope: str | None) -> None:
        """Remember what each id would be as a number or UUID; two ids with the same form collide.

        Ids of one kind other than text have one spelling only, so they are compared only with text ids.
        """
        if ids.kind is not IdKind.TEXT and set(self._profile.ids.kinds) <= {IdKind.U64, IdKind.I64, IdKind.UUID}:
            if len(self._forms) < _TRACKED_FORMS:
                self._forms.update(((scope, str(value)), ids.kind) for value in ids.to_pylist())
            return
        for value in ids.to_pylist():
            form = _normal_form(value)
            if form is None:
                continue
            spelling = f"{ids.kind}:{value}" if ids.kind is IdKind.TEXT else ids.kind.value
            known = self._forms.get((scope, form))
            if known is not None and known != spelling:
                self._profile.ids.collisions += 1
            elif known is None and len(self._forms) < _TRACKED_FORMS:
                self._forms[(scope, form)] = spelling


def json_type(value: Any) -> str:
    """The JSON type of a payload value, int and float kept apart: null, bool, int, float, text, list, object."""
    try:
        return _JSON_TYPES[type(value)]
    except KeyError:
        raise TypeError(f"a payload value has type {type(value).__name__}, which is not a JSON type") from None


_JSON_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "text",
    list: "list",
    dict: "object",
}


def _add_value(field: FieldProfile, value: Any) -> int:
    kind = json_type(value)
    field.types[kind] = field.types.get(kind, 0) + 1
    if kind == "text" and (marked := MARKED_ID.match(value)):
        field.marked_ids[marked[1]] = field.marked_ids.get(marked[1], 0) + 1
    if kind == "int":
        field.big_ints += not -_EXACT_DOUBLE <= value <= _EXACT_DOUBLE
    elif kind == "float":
        field.negative_zeros += is_negative_zero(value)
        field.whole += is_whole(value)
    if kind == "list":
        elements = {json_type(element) for element in value}
        alike = _alike(value, elements)
        field.lists[alike] = field.lists.get(alike, 0) + 1
        field.mixed_lists += len(elements) > 1
        field.max_list = max(field.max_list, len(value))
        for element in elements:
            field.elements[element] = field.elements.get(element, 0) + 1
    return _measure(field, value, 0)


def is_negative_zero(value: float) -> bool:
    """Whether a float is -0.0, whose sign does not survive every way of writing numbers."""
    return value == 0 and math.copysign(1.0, value) < 0


def is_whole(value: float) -> bool:
    """Whether a float is what an int within 2^53 becomes in a database that has floats only."""
    return value.is_integer() and abs(value) <= _EXACT_DOUBLE and not is_negative_zero(value)


def _alike(values: list[Any], elements: set[str]) -> str:
    """What all elements of a list are; see `FieldProfile.lists`."""
    if len(elements) != 1:
        return "mixed" if elements else "empty"
    (kind,) = elements
    if kind == "int" and not all(-_EXACT_DOUBLE <= value <= _EXACT_DOUBLE for value in values):
        return "big int"
    return kind


def _measure(field: FieldProfile, value: Any, depth: int) -> int:
    """Record limits at any depth and return about how many bytes the value takes as JSON."""
    if value is None or isinstance(value, bool):
        return 5
    if isinstance(value, int):
        field.min_int = value if field.min_int is None else min(field.min_int, value)
        field.max_int = value if field.max_int is None else max(field.max_int, value)
        field.beyond_double += not -_EXACT_DOUBLE <= value <= _EXACT_DOUBLE
        field.beyond_int64 += not _INT64[0] <= value <= _INT64[1]
        return 20
    if isinstance(value, float):
        if math.isfinite(value):
            field.inexact_float32 += not fits_float32(value)
        else:
            field.non_finite += 1
        return 24
    if isinstance(value, str):
        size = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        field.max_text_bytes = max(field.max_text_bytes, size)
        return size + 3
    field.depth = max(field.depth, depth + 1)
    if isinstance(value, list):
        return 2 + sum(_measure(field, element, depth + 1) + 1 for element in value)
    return 2 + sum(len(key) + 4 + _measure(field, element, depth + 1) for key, element in value.items())


def fits_float32(value: float) -> bool:
    """Whether a float32 holds a finite value exactly."""
    if abs(value) > float(np.finfo(np.float32).max):
        return False
    return float(np.float32(value)) == value


def norms_are_unit(values: np.ndarray) -> np.ndarray:
    """Which rows of float (n, d) have norm 1, or 0, which normalising leaves alone: bool (n,)."""
    norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
    unit: np.ndarray = (np.abs(norms - 1.0) <= UNIT_TOLERANCE) | (norms == 0.0)
    return unit


def _add_vector(stats: VectorProfile, column: VectorColumn) -> None:
    valid = is_valid(column)
    stats.present += int(valid.sum())
    if isinstance(column, Sparse):
        lengths = np.diff(column.indptr)
        stats.max_nnz = max(stats.max_nnz, int(lengths.max(initial=0)))
        stats.zero += int((lengths[valid] == 0).sum())
        rows = np.repeat(np.arange(len(column)), lengths)
        stats.negative += len(np.unique(rows[column.values < 0]))
        stats.non_finite += len(np.unique(rows[~np.isfinite(column.values)]))
        return
    if not valid.any():
        return
    stats.min_dim = column.dim if stats.min_dim is None else min(stats.min_dim, column.dim)
    stats.max_dim = column.dim if stats.max_dim is None else max(stats.max_dim, column.dim)
    if isinstance(column, Packed):
        if column.element is Element.BINARY:
            return
        column = Dense(widen(column), column.valid)
    if isinstance(column, Dense):
        values = column.values if column.valid is None else column.values[valid]
        finite = np.isfinite(values).all(axis=1)
        stats.non_finite += int((~finite).sum())
        stats.zero += int((~values.any(axis=1)).sum())
        stats.non_unit += int((~norms_are_unit(values[finite])).sum())
    else:
        rows = np.repeat(np.arange(len(column)), np.diff(column.offsets))
        stats.non_finite += len(np.unique(rows[~np.isfinite(column.values).all(axis=1)]))
        finite = np.isfinite(column.values).all(axis=1)
        stats.non_unit += len(np.unique(rows[finite][~norms_are_unit(column.values[finite])]))


def _matches(array: pa.Array[Any], pattern: str) -> Any:
    return pc.match_substring_regex(array, pattern=pattern)


def _as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _normal_form(value: Any) -> str | None:
    """The number or UUID that an id would be read as by a database that has only those."""
    if not isinstance(value, str):
        return str(value)
    if re.fullmatch(r"[+-]?[0-9]{1,20}", value, re.ASCII):
        return str(int(value))
    parsed = _as_uuid(value)
    return None if parsed is None else str(parsed)
