"""Recommend a schema mapping between two databases, without connecting to either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.databases import TYPES, capabilities_of
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.model import Capabilities, IdKind, ScopeKind, VectorKind


class FieldRecommendation(BaseModel):
    """What one field should become.

    Args:
        confidence: from 0 to 1.
        target_type: its type in the target, in the words that the source field was given in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_field: str
    target_field: str
    confidence: float
    conversion_needed: bool
    notes: str
    source_type: str = ""
    target_type: str = ""


class SchemaRecommendation(BaseModel):
    """What a migration between two databases means for a schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_type: str
    target_type: str
    field_mappings: tuple[FieldRecommendation, ...] = ()
    overall_confidence: float = Field(ge=0, le=1)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What a recommendation needs to know of a database.

    Args:
        objects: it has nested objects.
        nested: it holds any nested object under any key.
        packs_keys: a value whose key is not possible goes into the JSON field, instead of getting another name.
    """

    title: str
    ids: frozenset[IdKind]
    key_pattern: str | None = None
    packs_keys: bool = False
    reserved: tuple[str, ...] = ()
    objects: bool = True
    nested: bool = True
    null: bool = True
    lists: str = "any"
    exact_ints: bool = True
    sparse: bool = True
    normalises_cosine: bool = False
    scope: str = ""
    graph: bool = False


KNOWN_TYPES = TYPES
"""Databases that a recommendation can speak of."""

_JSON_FIELD = "_source_json"
_SCOPES = {ScopeKind.NAMESPACE: "namespaces", ScopeKind.TENANT: "tenants", ScopeKind.PARTITION: "partitions"}
_ID_NAMES = {"id", "_id", "uuid", "pk", "document_id", "doc_id"}
_VECTOR_WORDS = {"vector", "vectors", "embedding", "float_vector", "dense_vector", "values"}
_SPARSE_WORDS = {"sparse", "sparse_vector", "sparse_values", "sparse_float_vector"}
_OBJECT_WORDS = {"object", "json", "map", "dict", "struct"}
_INT_WORDS = {"int", "integer", "int64", "long", "bigint", "uint64"}
_TEXT_WORDS = {"string", "text", "varchar", "keyword", "str"}
_LIST_WORDS = {"list", "array"}


def recommend_schema(
    source_type: str, target_type: str, fields: Mapping[str, str] | None = None
) -> SchemaRecommendation:
    """Recommend what fields should become.

    Args:
        fields: name of a field -> its type, in any database's words; None asks about the two databases only.

    Raises:
        ConfigurationError: a database is not known.
    """
    source, target = _rules(source_type), _rules(target_type)
    used: set[str] = set()
    mappings = tuple(_field(name, word, source, target, used) for name, word in (fields or {}).items())
    scores = [mapping.confidence for mapping in mappings] or [0.9 if source_type != target_type else 1.0]
    return SchemaRecommendation(
        source_type=source_type,
        target_type=target_type,
        field_mappings=mappings,
        overall_confidence=round(sum(scores) / len(scores), 2),
        warnings=() if source_type == target_type else tuple(_warnings(source, target)),
    )


def _rules(type: str) -> _Rules:
    """What is known of a database, from its module."""
    if type not in TYPES:
        raise ConfigurationError(f"'{type}' is not a database that we know; use one of {', '.join(KNOWN_TYPES)}")
    found = capabilities_of(type)
    columns = found.declared_fields and found.shared_names
    return _Rules(
        title=found.title,
        ids=frozenset(found.id_kinds),
        # Keys that a column could not have stay undeclared, where the database keeps such keys.
        key_pattern=found.key_pattern if found.dynamic_fields else found.field_name_pattern,
        packs_keys=found.dynamic_fields,
        reserved=(*found.reserved_keys, *(("id", found.default_vector_name) if columns else ())),
        objects="object" in found.payload_types,
        nested=found.holds_any_json,
        null="null" in found.payload_types,
        lists=_lists(found),
        exact_ints=found.max_int > 2**53,
        sparse=VectorKind.SPARSE in found.vector_kinds,
        normalises_cosine=found.normalises_cosine,
        scope=next((_SCOPES[kind] for kind in found.scope_kinds if kind in _SCOPES), ""),
        graph=bool(found.hnsw_words),
    )


def _lists(found: Capabilities) -> str:
    """The lists that a database holds: any, of one type, or of texts."""
    if found.holds_any_json:
        return "any"
    return "one type" if found.list_elements is None else "texts"


def _field(name: str, word: str, source: _Rules, target: _Rules, used: set[str]) -> FieldRecommendation:
    word = word.strip().lower()
    if name.lower() in _ID_NAMES and word not in _VECTOR_WORDS:
        return _id(name, word, source, target, used)
    if target.packs_keys and target.key_pattern is not None and not re.fullmatch(target.key_pattern, name):
        notes = f"{target.title} has no such key: kept exactly as JSON text in '{_JSON_FIELD}'"
        return FieldRecommendation(
            source_field=name,
            target_field=f"{_JSON_FIELD}.{name}",
            confidence=0.6,
            conversion_needed=True,
            notes=notes,
            source_type=word,
            target_type="text",
        )
    renamed = _named(name, target)
    while renamed in used:
        renamed += "_"
    used.add(renamed)
    confidence, converted, kind, notes = _value(word, source, target)
    if renamed != name:
        confidence, converted = min(confidence, 0.8), True
        why = "uses this name itself" if name in target.reserved else "has no such name, or had it already"
        notes = f"Renamed: {target.title} {why}. {notes}"
    return FieldRecommendation(
        source_field=name,
        target_field=renamed,
        confidence=confidence,
        conversion_needed=converted,
        notes=notes,
        source_type=word,
        target_type=kind,
    )


def _id(name: str, word: str, source: _Rules, target: _Rules, used: set[str]) -> FieldRecommendation:
    used.add("id")
    kinds = {IdKind.UUID} if word == "uuid" else {IdKind.I64, IdKind.U64} if word in _INT_WORDS else source.ids
    if kinds & target.ids:
        confidence, converted, notes = 1.0, False, "Primary identifier, direct mapping"
    elif IdKind.TEXT in target.ids:
        confidence, converted, notes = 0.95, True, "Primary identifier, kept as its canonical text"
    else:
        confidence, converted = 0.9, True
        notes = "Primary identifier: kept where it is a canonical number or UUID, else UUIDv5 with the original in "
        notes += "payload field '_source_id'"
    return FieldRecommendation(
        source_field=name,
        target_field="id",
        confidence=confidence,
        conversion_needed=converted,
        notes=notes,
        source_type=word,
        target_type=" or ".join(sorted(kind.value for kind in target.ids)),
    )


def _named(name: str, target: _Rules) -> str:
    """The field's name as the target accepts it."""
    if name in target.reserved:
        return f"{name}_"
    if target.packs_keys or target.key_pattern is None or re.fullmatch(target.key_pattern, name):
        return name
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    name = name[:1].lower() + name[1:]
    return name if re.fullmatch(target.key_pattern, name) else f"f_{name}"


def _value(word: str, source: _Rules, target: _Rules) -> tuple[float, bool, str, str]:
    """Confidence, whether values are converted, the target's type, and why."""
    shaped = _shaped(word, target)
    if shaped is not None:
        return shaped
    if word in _INT_WORDS and not target.exact_ints:
        return 0.8, True, "number", f"Integers beyond 2^53 are kept exactly as JSON text in '{_JSON_FIELD}'"
    if word in _INT_WORDS and not source.exact_ints:
        return 0.8, False, word, f"{source.title} holds float64 only: integers arrive as floats"
    if word in _TEXT_WORDS | _OBJECT_WORDS | _INT_WORDS or _is_list(word):
        return 0.95, False, word, "Same values in the target"
    return 0.7, False, word, "Auto-mapped by name - verify type compatibility"


def _shaped(word: str, target: _Rules) -> tuple[float, bool, str, str] | None:
    """What becomes of vectors, objects and lists that are not simply kept; None for everything else."""
    if word in _SPARSE_WORDS:
        held = (1.0, False, word, "Sparse vector, kept")
        return held if target.sparse else (0.2, True, "none", f"{target.title} has no sparse vectors; leave it behind")
    if word in _VECTOR_WORDS:
        return 1.0, False, "vector", "Dense vector, float32 components are kept bit by bit"
    if word in _OBJECT_WORDS and not target.nested:
        return 0.5, True, "text", f"{target.title} gets nested objects exactly, as JSON text in '{_JSON_FIELD}'"
    if _is_list(word) and not (target.lists == "any" or _is_list_of_text(word)):
        notes = f"{target.title} holds lists of {target.lists} only; others are kept as JSON text in '{_JSON_FIELD}'"
        return 0.5, True, "list", notes
    return None


def _is_list(word: str) -> bool:
    return word in _LIST_WORDS or word.endswith("[]") or word.startswith(("list[", "array[", "list<", "array<"))


def _is_list_of_text(word: str) -> bool:
    return _is_list(word) and any(text in word for text in _TEXT_WORDS)


def _warnings(source: _Rules, target: _Rules) -> list[str]:
    """What a migration between the two should not overlook, whatever the fields."""
    found = []
    if source.objects and not target.nested:
        found.append(f"{target.title} metadata is flat: nested objects of {source.title} become JSON text")
    if source.null and not target.null:
        found.append(f"{target.title} does not tell a null value from an absent key: nulls become JSON text")
    if source.exact_ints and not target.exact_ints:
        found.append(f"{target.title} stores numbers as float64: integers beyond 2^53 become JSON text")
    if source.sparse and not target.sparse:
        found.append(f"{target.title} has no sparse vectors")
    if source.graph and not target.graph:
        found.append(f"{target.title} builds its own index: HNSW settings of {source.title} are left behind")
    if target.normalises_cosine and not source.normalises_cosine:
        found.append(f"{target.title} normalises cosine vectors: their original norm is lost")
    if not source.ids & target.ids and IdKind.TEXT not in target.ids:
        found.append(f"{target.title} ids are numbers or UUIDs: other ids become UUIDv5, the original is kept")
    if source.scope and source.scope != target.scope:
        found.append(f"{source.title} {source.scope} become {target.scope or 'a payload field'} in {target.title}")
    return found
