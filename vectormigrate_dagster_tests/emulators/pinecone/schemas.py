"""Schemas of indexes, as the control plane accepts and completes them.

Rules: the docstrings of pinecone/models/indexes/schema.py and pinecone/schema_builder.py of client 10.2.
"""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused, invalid
from vectormigrate_dagster_tests.emulators.pinecone.index import DENSE, SPARSE
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_DIMENSION

METRICS = ("cosine", "dotproduct", "euclidean")
MAX_NAME_BYTES = 64
_DECLARABLE = {"dense_vector", "sparse_vector", "string"}
_READ_ONLY = {"semantic_text", "float", "boolean", "string_list"}
_SEARCHES = ("full_text_search", "embed", "sparse_embed")


def completed(schema: Any) -> dict[str, dict[str, Any]]:
    """The fields of a schema, with defaults.

    Raises:
        Refused: the index cannot be made so.
    """
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, dict) or not fields:
        raise invalid("schema.fields must declare at least one field")
    if not all(isinstance(given, dict) for given in fields.values()):
        raise invalid("schema.fields must map names to objects")
    reserved = fields.keys() & {DENSE, SPARSE}
    if reserved and reserved != fields.keys():
        raise invalid(f"Fields {sorted(reserved)} are reserved and cannot be combined with other fields")
    if reserved and any(
        given.get("type") != {DENSE: "dense_vector", SPARSE: "sparse_vector"}[name] for name, given in fields.items()
    ):
        raise invalid(f"Fields {sorted(reserved)} are reserved for a dense and a sparse vector")
    for kind, slot in (("dense_vector", "embed"), ("sparse_vector", "sparse_embed")):
        if sum(given.get("type") == kind or slot in given for given in fields.values()) > 1:
            raise invalid(f"An index can have at most one {kind} field or field with {slot}")
    return {name: _field(name, given) for name, given in fields.items()}


def _field(name: str, given: dict[str, Any]) -> dict[str, Any]:
    if name not in (DENSE, SPARSE):
        _check_name(name)
    kind = given.get("type")
    if kind in _READ_ONLY:
        raise invalid(f"Field '{name}': type '{kind}' cannot be declared")
    if kind not in _DECLARABLE:
        raise Refused(Kind.UNPROCESSABLE, f"schema.fields.{name}.type: unknown variant `{kind}`")
    common = {"type": kind, "description": given.get("description")}
    if kind == "dense_vector":
        dimension, metric = given.get("dimension"), given.get("metric")
        if not isinstance(dimension, int) or not 1 <= dimension <= MAX_DIMENSION:
            raise invalid(f"Field '{name}': dimension must be between 1 and {MAX_DIMENSION}, got {dimension}")
        if metric not in METRICS:
            raise invalid(f"Field '{name}': metric must be one of {', '.join(METRICS)}, got {metric}")
        return {**common, "dimension": dimension, "metric": metric}
    if kind == "sparse_vector":
        return common
    return {**common, **_text(name, given)}


def _text(name: str, given: dict[str, Any]) -> dict[str, Any]:
    searches = {key: given[key] for key in _SEARCHES if given.get(key) is not None}
    if not searches:
        raise invalid(f"Field '{name}': a string field must declare one of {', '.join(_SEARCHES)}")
    if searches.keys() & {"embed", "sparse_embed"}:
        raise Refused(Kind.UNIMPLEMENTED, "the stand-in embeds no text")
    if "filterable" in given:
        raise invalid(f"Field '{name}': filterable cannot be combined with a search configuration")
    if given.get("store_text") is False:
        raise invalid(f"Field '{name}': store_text can only be false with embed or sparse_embed")
    search = {"language": "en", "stemming": False, "stop_words": False, **searches["full_text_search"]}
    return {"full_text_search": search, "store_text": True}


def _check_name(name: str) -> None:
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise invalid(f"Field name '{name}' must have 1 to {MAX_NAME_BYTES} bytes")
    if name.startswith(("_", "$")):
        raise invalid(f"Field name '{name}' must not start with '{name[0]}'")
