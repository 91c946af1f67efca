"""The nouns: what the rest of the house talks about. Imports nothing of ours but `errors`."""

from vectormigrate_dagster.model.batch import Batch
from vectormigrate_dagster.model.capabilities import Capabilities
from vectormigrate_dagster.model.ids import Id, IdColumn, IdKind, id_text
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
