"""What a collection looks like, in words that hold for all four databases."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.model.id_kinds import IdKind
from vectormigrate_dagster.model.vectors import Element


class Metric(StrEnum):
    """How two vectors are compared."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    HAMMING = "hamming"
    JACCARD = "jaccard"


class VectorKind(StrEnum):
    """The shape of a vector; `Element` says what its components are."""

    DENSE = "dense"
    SPARSE = "sparse"
    MULTI = "multi"


class FieldType(StrEnum):
    """The type of a payload field. A schemaless key without an index is `ANY`."""

    ANY = "any"
    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    TEXT = "text"
    JSON = "json"
    ARRAY = "array"
    DATETIME = "datetime"
    GEO = "geo"
    UUID = "uuid"
    OBJECT = "object"
    BLOB = "blob"
    PHONE = "phone"
    REFERENCE = "reference"


class ScopeKind(StrEnum):
    """What divides a collection."""

    NONE = "none"
    NAMESPACE = "namespace"
    TENANT = "tenant"
    PARTITION = "partition"
    SHARD_KEY = "shard_key"
    FIELD = "field"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IdSchema(_Frozen):
    """How records are named.

    Args:
        kinds: the id kinds that may occur, in the order in which a scan meets them.
        field: the primary key's field name, where ids are a field (Milvus).
        max_length: bytes of a text id, where the collection limits it.
        auto: the database makes the ids itself, so ours cannot be kept.
    """

    kinds: tuple[IdKind, ...]
    field: str | None = None
    max_length: int | None = None
    auto: bool = False


class IndexSpec(_Frozen):
    """An index as intent: what kind and with which settings, in the database's own words."""

    type: str
    params: dict[str, Any] = Field(default_factory=dict)


class VectorSchema(_Frozen):
    """One vector of every record.

    Args:
        name: "" is Qdrant's unnamed vector.
        dim: components; None for sparse vectors.
        metric: None where the database attaches none (a sparse vector, an unindexed field).
        optional: whether a record may lack it.
        modifier: what the database multiplies in by itself (Qdrant's `idf`).
    """

    name: str
    kind: VectorKind = VectorKind.DENSE
    element: Element = Element.FLOAT32
    dim: int | None = None
    metric: Metric | None = None
    optional: bool = False
    index: IndexSpec | None = None
    quantization: IndexSpec | None = None
    on_disk: bool | None = None
    modifier: str | None = None


class FieldSchema(_Frozen):
    """One payload field that the database knows of: a declared column, or a key with an index.

    Args:
        declared: a column with a type that the database enforces; False for an indexed payload key.
        element: type of an array's elements.
        max_length: bytes of a text, or of a text in an array.
        max_capacity: elements of an array.
        index: index on the field, if any.
        tenant: the field divides the collection (Qdrant `is_tenant`, Milvus partition key).
        fields: what an `OBJECT`, or each object of an array of them, may hold (Weaviate).
        targets: names of the collections that a `REFERENCE` may point to (Weaviate).
    """

    name: str
    type: FieldType = FieldType.ANY
    declared: bool = False
    nullable: bool = True
    element: FieldType | None = None
    max_length: int | None = None
    max_capacity: int | None = None
    index: IndexSpec | None = None
    tenant: bool = False
    default: Any = None
    fields: tuple[FieldSchema, ...] = ()
    targets: tuple[str, ...] = ()


class CollectionSchema(_Frozen):
    """A collection's whole schema.

    Args:
        name: the collection's name.
        dynamic: whether records may carry keys that no field declares.
        scope: what divides the collection.
        shards, replicas: as the database reports them; None where it does not.
        aliases: other names of the collection.
        marker: what VectorMigrate wrote into the collection when it created it, if it did.
        settings: everything else the database reported, for people to read; never secret.
    """

    name: str
    ids: IdSchema
    vectors: tuple[VectorSchema, ...] = ()
    fields: tuple[FieldSchema, ...] = ()
    dynamic: bool = True
    scope: ScopeKind = ScopeKind.NONE
    shards: int | None = None
    replicas: int | None = None
    aliases: tuple[str, ...] = ()
    marker: dict[str, Any] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    def of_field(self, name: str) -> CollectionSchema:
        """What is left of it for who looks at one field: no vectors, and of the declared fields only this one."""
        fields = tuple(field for field in self.fields if field.declared and field.name == name)
        return self.model_copy(update={"vectors": (), "fields": fields, "dynamic": self.dynamic and not fields})

    def vector(self, name: str) -> VectorSchema:
        """The vector called `name`; KeyError if there is none."""
        for vector in self.vectors:
            if vector.name == name:
                return vector
        raise KeyError(name)
