"""A class of Weaviate as our schema, and back.

The definition of a class: https://docs.weaviate.io/weaviate/config-refs/collections
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vectormigrate_dagster.databases.schema_check import masked
from vectormigrate_dagster.databases.weaviate.capabilities import SETTINGS
from vectormigrate_dagster.databases.weaviate.properties import read_property, write_property
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import (
    CollectionSchema,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    ScopeKind,
    VectorKind,
    VectorSchema,
)

INDEX_TYPES = ("hnsw", "flat", "dynamic", "hfresh")
QUANTIZERS = ("pq", "bq", "sq", "rq")

_METRICS = {
    "cosine": Metric.COSINE,
    "dot": Metric.DOT,
    "l2-squared": Metric.EUCLIDEAN,
    "manhattan": Metric.MANHATTAN,
    "hamming": Metric.HAMMING,
}
_DISTANCES = {metric: word for word, metric in _METRICS.items()}

_NOTE = "vectormigrate: "
"""How the last line of a description begins that holds what we wrote into it."""

_SHOWN = ("moduleConfig",)


def read_schema(raw: Mapping[str, Any], aliases: Sequence[str]) -> CollectionSchema:
    """A class as the server describes it; dimensions are those that were noted when we made it, or None."""
    description, note = _read_description(raw.get("description") or "")
    dims: dict[str, int] = note.get("dims", {})
    settings = {name: raw[name] for name in (*SETTINGS, *_SHOWN) if raw.get(name)}
    settings.pop("description", None)
    if description:
        settings["description"] = description
    if made := _vectorizers(raw):
        settings["vectorizers"] = made
    tenants = bool((raw.get("multiTenancyConfig") or {}).get("enabled"))
    return CollectionSchema(
        name=raw["class"],
        ids=IdSchema(kinds=(IdKind.UUID,)),
        vectors=tuple(_read_vectors(raw, dims)),
        fields=tuple(read_property(one) for one in raw.get("properties") or ()),
        dynamic=False,
        scope=ScopeKind.TENANT if tenants else ScopeKind.NONE,
        shards=None if tenants else (raw.get("shardingConfig") or {}).get("desiredCount"),
        replicas=(raw.get("replicationConfig") or {}).get("factor"),
        aliases=tuple(sorted(aliases)),
        marker=note.get("marker"),
        settings=masked(settings),
    )


def creation(schema: CollectionSchema, name: str, *, replication_factor: int | None) -> dict[str, Any]:
    """The class to create for a schema: nothing is embedded by it, and every property is named.

    Args:
        schema: what it has.
        name: what it is called.
        replication_factor: instead of the one in the schema's settings.

    Raises:
        SchemaMismatch: there is no such class.
    """
    settings = {key: value for key, value in schema.settings.items() if key in SETTINGS}
    written: dict[str, Any] = {
        "class": name,
        "description": _description(schema, settings.pop("description", "")),
        "properties": [write_property(field) for field in schema.fields if field.declared],
        "multiTenancyConfig": {
            **settings.pop("multiTenancyConfig", {}),
            "enabled": schema.scope is ScopeKind.TENANT,
        },
    }
    written |= _vectors(schema.vectors)
    sharding = settings.pop("shardingConfig", {})
    if schema.scope is not ScopeKind.TENANT:
        known = {key: sharding[key] for key in ("desiredCount", "virtualPerPhysical") if sharding.get(key)}
        written |= {"shardingConfig": known} if known else {}
    if replication_factor is not None:
        settings["replicationConfig"] = {**settings.get("replicationConfig", {}), "factor": replication_factor}
    return written | settings


def vectorizers(schema: CollectionSchema, vector: str) -> list[str]:
    """The modules of a collection that make this vector of a record that comes without it."""
    return list(schema.settings.get("vectorizers", {}).get(vector, ()))


def named(vectors: Sequence[VectorSchema]) -> bool:
    """Whether vectors go by names; "" is the one vector of a collection that has no named ones."""
    return all(vector.name for vector in vectors)


def _read_vectors(raw: Mapping[str, Any], dims: Mapping[str, int]) -> list[VectorSchema]:
    configs: dict[str, Any] = dict(raw.get("vectorConfig") or {})
    vectors = [_read_vector(name, config, dims.get(name)) for name, config in sorted(configs.items())]
    # A class of old has its only vector in its own settings, and may have got named ones later.
    if not configs or raw.get("vectorIndexType"):
        vectors.insert(0, _read_vector("", raw, dims.get("")))
    return vectors


def _read_vector(name: str, config: Mapping[str, Any], dim: int | None) -> VectorSchema:
    params: dict[str, Any] = dict(config.get("vectorIndexConfig") or {})
    distance = params.pop("distance", "cosine")
    # "dynamic" has the quantizers of both of its kinds of index within their settings.
    quantizers = {word: params.pop(word) for word in QUANTIZERS if isinstance(params.get(word), dict)}
    enabled = {word: settings for word, settings in quantizers.items() if settings.get("enabled")}
    multi = bool((params.get("multivector") or {}).get("enabled"))
    return VectorSchema(
        name=name,
        kind=VectorKind.MULTI if multi else VectorKind.DENSE,
        dim=dim,
        metric=_METRICS[distance],
        optional=True,
        index=IndexSpec(type=config.get("vectorIndexType") or "hnsw", params=params),
        quantization=next((IndexSpec(type=word, params=_rest(settings)) for word, settings in enabled.items()), None),
    )


def _vectorizers(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Vector -> the settings of the module that makes it, by the module's name; "" is the unnamed vector."""
    configs = {name: config.get("vectorizer") or {} for name, config in (raw.get("vectorConfig") or {}).items()}
    own = raw.get("vectorizer") or "none"
    configs |= {"": {own: (raw.get("moduleConfig") or {}).get(own, {})}}
    return {name: modules for name, modules in configs.items() if set(modules) - {"none"}}


def _rest(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "enabled"}


def _vectors(vectors: Sequence[VectorSchema]) -> dict[str, Any]:
    """The part of a class that is about vectors, which are provided by who writes them."""
    if named(vectors) and vectors:
        return {"vectorConfig": {one.name: {"vectorizer": {"none": {}}, **_vector(one)} for one in vectors}}
    if len(vectors) > 1:
        names = ", ".join(f"'{vector.name}'" for vector in vectors)
        raise SchemaMismatch(
            f"Weaviate has one unnamed vector or named ones, not both ({names}); give every one a name"
        )
    if vectors and vectors[0].kind is VectorKind.MULTI:
        raise SchemaMismatch("an unnamed vector of Weaviate is a dense one; give the multi-vector a name")
    skip = {"vectorIndexType": "hnsw", "vectorIndexConfig": {"skip": True}}
    return {"vectorizer": "none", **(_vector(vectors[0]) if vectors else skip)}


def _vector(vector: VectorSchema) -> dict[str, Any]:
    index = vector.index or IndexSpec(type="hnsw")
    if index.type not in INDEX_TYPES:
        raise SchemaMismatch(
            f"Weaviate has no index '{index.type}' (vector '{vector.name}'); possible are {', '.join(INDEX_TYPES)}"
        )
    config: dict[str, Any] = {**index.params, "distance": _DISTANCES[vector.metric or Metric.COSINE]}
    if vector.kind is VectorKind.MULTI:
        config["multivector"] = {**config.get("multivector", {}), "enabled": True}
    if vector.quantization is not None:
        if vector.quantization.type not in QUANTIZERS:
            raise SchemaMismatch(
                f"Weaviate has no quantization '{vector.quantization.type}' (vector '{vector.name}'); "
                f"possible are {', '.join(QUANTIZERS)}"
            )
        config[vector.quantization.type] = {**vector.quantization.params, "enabled": True}
    return {"vectorIndexType": index.type, "vectorIndexConfig": config}


def _description(schema: CollectionSchema, text: str) -> str:
    """The owner's words, and behind them a line with what no part of a class has a place for."""
    note = {
        "marker": schema.marker,
        "dims": {vector.name: vector.dim for vector in schema.vectors if vector.dim is not None},
    }
    line = _NOTE + json.dumps(note, ensure_ascii=False)
    return f"{text}\n{line}" if text else line


def _read_description(text: str) -> tuple[str, dict[str, Any]]:
    """What the owner wrote, and what we noted."""
    words, _, last = text.rpartition("\n")
    if last.startswith(_NOTE):
        try:
            note = json.loads(last.removeprefix(_NOTE))
        except ValueError:
            return text, {}  # somebody has edited it
        if isinstance(note, dict):
            return words, note
    return text, {}
