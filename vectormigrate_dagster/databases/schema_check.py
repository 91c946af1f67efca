"""What the four databases do alike with schemas: refuse one that they cannot hold, and report one without secrets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import Capabilities, CollectionSchema, VectorKind


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a database's reported settings without anything that looks like a secret."""
    return {
        key: "********" if any(word in key.lower() for word in ("key", "token", "password", "secret")) else value
        for key, value in settings.items()
    }


def check_schema(schema: CollectionSchema, can: Capabilities) -> None:
    """Check that a database can hold such a collection, before anything is made.

    Indexes and quantization are intent and not checked: where there is no such thing, none is built.

    Raises:
        SchemaMismatch: it cannot; every reason is named.
    """
    problems = []
    if not any(kind in can.id_kinds for kind in schema.ids.kinds):
        problems.append(f"ids are {_names(schema.ids.kinds)}, possible are {_names(can.id_kinds)}")
    elif len(schema.ids.kinds) > 1 and not can.mixed_id_kinds:
        problems.append(f"ids are of several kinds ({_names(schema.ids.kinds)}), possible is one")
    if can.max_vectors is not None and len(schema.vectors) > can.max_vectors:
        problems.append(f"it has {len(schema.vectors)} vectors, possible are {can.max_vectors}")
    for kind, number in Counter(vector.kind for vector in schema.vectors).items():
        if can.max_per_kind is not None and number > can.max_per_kind:
            problems.append(f"it has {number} {kind.value} vectors, possible are {can.max_per_kind}")
    for vector in schema.vectors:
        name = f"vector '{vector.name}'"
        if vector.kind not in can.vector_kinds:
            problems.append(f"{name} is {vector.kind.value}, possible are {_names(can.vector_kinds)}")
        elif vector.metric is not None and vector.metric not in can.metrics[vector.kind]:
            problems.append(
                f"{name} is compared by {vector.metric.value}, possible are {_names(can.metrics[vector.kind])}"
            )
        if vector.element not in can.elements:
            problems.append(f"{name} holds {vector.element.value}, possible are {_names(can.elements)}")
        if vector.dim is not None and not 1 <= vector.dim <= can.max_dim:
            problems.append(f"{name} has {vector.dim} dimensions, possible are 1 to {can.max_dim}")
        may_lack = can.missing_vectors or (can.missing_sparse and vector.kind is VectorKind.SPARSE)
        if vector.optional and not may_lack:
            problems.append(f"{name} may be missing, which is not possible")
    problems += [
        f"field '{f.name}' is {f.type.value}, possible are {_names(can.field_types)}"
        for f in schema.fields
        if f.declared and f.type not in can.field_types
    ]
    fields = [f.name for f in schema.fields if f.declared]
    patterns = (
        ("a field", fields, can.field_name_pattern),
        ("a vector", [v.name for v in schema.vectors], can.vector_name_pattern or can.field_name_pattern),
    )
    problems += [
        f"'{name}' is no name for {what} (pattern {pattern})"
        for what, names, pattern in patterns
        for name in names
        if pattern is not None and re.fullmatch(pattern, name) is None
    ]
    problems += [f"'{name}' is reserved and no name for a field" for name in fields if name in can.reserved_keys]
    if problems:
        raise SchemaMismatch(f"{can.title} cannot hold collection '{schema.name}': {'; '.join(problems)}")


def _names(values: Iterable[StrEnum]) -> str:
    return ", ".join(value.value for value in values) or "none"
