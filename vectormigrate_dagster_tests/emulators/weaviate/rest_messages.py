"""Objects over REST: JSON in and out (adapters/handlers/rest/handlers_objects.go of server 1.39)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vectormigrate_dagster_tests.emulators.weaviate.engine import NewObject
from vectormigrate_dagster_tests.emulators.weaviate.errors import Malformed, Refused
from vectormigrate_dagster_tests.emulators.weaviate.gotext import is_uuid
from vectormigrate_dagster_tests.emulators.weaviate.index_config import is_multi
from vectormigrate_dagster_tests.emulators.weaviate.schema import vector_configs
from vectormigrate_dagster_tests.emulators.weaviate.shard import StoredObject
from vectormigrate_dagster_tests.emulators.weaviate.values import is_reference, parse_beacon
from vectormigrate_dagster_tests.emulators.weaviate.vectors import rows


def new_object(body: dict[str, Any]) -> NewObject:
    """The object of a request's body.

    Raises:
        Refused: it has no class, or a vector is none.
    """
    if not body.get("class"):
        raise Refused("invalid object: the given class is empty")
    given = {name: vector(value, name) for name, value in (body.get("vectors") or {}).items() if value is not None}
    if body.get("vector"):
        given[""] = vector(body["vector"], "")
    if body.get("id") and not is_uuid(body["id"]):
        raise Malformed(601, f'id in body must be of type uuid: "{body["id"]}"')
    return NewObject(body["class"], body.get("id"), body.get("tenant") or "", body.get("properties") or {}, given)


def vector(value: Any, name: str) -> NDArray[np.float32]:
    """A vector, or several in two dimensions.

    Raises:
        Refused: it is none.
    """
    try:
        result = np.array(value, dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise Refused(
            "vectors: cannot unmarshal vector into either []float32 or [][]float32 for target vector " + name
        ) from error
    if result.ndim not in (1, 2):
        raise Refused("vectors: cannot unmarshal vector into either []float32 or [][]float32 for target vector " + name)
    return result


def shown(
    definition: dict[str, Any], stored: StoredObject, *, tenant: str = "", with_vectors: bool = True
) -> dict[str, Any]:
    """An object as JSON."""
    references = {each["name"] for each in definition["properties"] if is_reference(each["dataType"])}
    answer: dict[str, Any] = {
        "class": definition["class"],
        "creationTimeUnix": stored.created,
        "id": stored.id,
        "lastUpdateTimeUnix": stored.updated,
        "properties": {
            name: [_reference(each) for each in value] if name in references else _json(value)
            for name, value in stored.properties.items()
        },
        "vectorWeights": None,
    }
    if tenant:
        answer["tenant"] = tenant
    if with_vectors:
        configs = vector_configs(definition)
        read = {name: rows(each, multi=is_multi(configs[name])) for name, each in stored.vectors.items()}
        if "" in read:
            answer["vector"] = read.pop("")
        if read:
            answer["vectors"] = read
    return answer


def _reference(beacon: str) -> dict[str, str]:
    class_name, key = parse_beacon(beacon)
    return {"beacon": beacon, "href": f"/v1/objects/{class_name}/{key}"}


def _json(value: Any) -> Any:
    """A value as Go writes it: the shortest digits, no fraction if it has none; coordinates are float32."""
    match value:
        case float():
            # As digits: the JSON library takes no more than 64 bits.
            return orjson.Fragment(f"{Decimal(repr(value)):.0f}") if value.is_integer() and abs(value) < 1e21 else value
        case dict() if value.keys() == {"latitude", "longitude"}:
            return {key: _json(float(str(np.float32(inner)))) for key, inner in value.items()}
        case dict():
            return {key: _json(inner) for key, inner in value.items()}
        case list():
            return [_json(inner) for inner in value]
        case _:
            return value
