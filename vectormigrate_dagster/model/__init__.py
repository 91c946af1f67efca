"""The nouns: what the rest of the house talks about. Imports nothing of ours but `errors`.

Importing this package is quick: Arrow and numpy are imported with the first noun that holds some.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vectormigrate_dagster.model.id_kinds import Id, IdKind, id_text

if TYPE_CHECKING:
    from vectormigrate_dagster.model.batch import Batch
    from vectormigrate_dagster.model.capabilities import Capabilities
    from vectormigrate_dagster.model.ids import IdColumn
    from vectormigrate_dagster.model.payloads import EncodedPayloads, Payload, PayloadForm, octets_in
    from vectormigrate_dagster.model.schema import (
        CollectionSchema,
        FieldSchema,
        FieldType,
        IdSchema,
        IndexSpec,
        Metric,
        ScopeKind,
        VectorKind,
        VectorSchema,
    )
    from vectormigrate_dagster.model.split import Split, tile
    from vectormigrate_dagster.model.vectors import (
        Dense,
        Element,
        Multi,
        Packed,
        Sparse,
        VectorColumn,
        all_finite,
        is_valid,
    )

__all__ = [
    "Batch",
    "Capabilities",
    "CollectionSchema",
    "Dense",
    "Element",
    "EncodedPayloads",
    "FieldSchema",
    "FieldType",
    "Id",
    "IdColumn",
    "IdKind",
    "IdSchema",
    "IndexSpec",
    "Metric",
    "Multi",
    "Packed",
    "Payload",
    "PayloadForm",
    "ScopeKind",
    "Sparse",
    "Split",
    "VectorColumn",
    "VectorKind",
    "VectorSchema",
    "all_finite",
    "id_text",
    "is_valid",
    "octets_in",
    "tile",
]

_MODULES = {
    "batch": ("Batch",),
    "capabilities": ("Capabilities",),
    "ids": ("IdColumn",),
    "payloads": (
        "EncodedPayloads",
        "Payload",
        "PayloadForm",
        "octets_in",
    ),
    "schema": (
        "CollectionSchema",
        "FieldSchema",
        "FieldType",
        "IdSchema",
        "IndexSpec",
        "Metric",
        "ScopeKind",
        "VectorKind",
        "VectorSchema",
    ),
    "split": (
        "Split",
        "tile",
    ),
    "vectors": (
        "Dense",
        "Element",
        "Multi",
        "Packed",
        "Sparse",
        "VectorColumn",
        "all_finite",
        "is_valid",
    ),
}
"""Where to find what is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    """Import a noun when it is first asked for."""
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(import_module(f"vectormigrate_dagster.model.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(name)
