"""What gRPC requests mean: objects of a batch, and the vector of a search (adapters/handlers/grpc/v1, server 1.39)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from weaviate.proto.v1 import base_pb2, base_search_pb2, batch_pb2

from vectormigrate_dagster_tests.emulators.weaviate.engine import NewObject
from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.schema import vector_configs
from vectormigrate_dagster_tests.emulators.weaviate.values import BEACON, find
from vectormigrate_dagster_tests.emulators.weaviate.vectors import rows


def new_object(given: batch_pb2.BatchObject, definition: dict[str, Any] | None) -> NewObject:
    """An object of a batch.

    Args:
        given: as it came.
        definition: its class; None if there is none yet.

    Raises:
        Refused: a vector or a reference is not possible, or there is no id.
    """
    properties = properties_of(given.properties)
    if definition is not None:
        for one in given.properties.single_target_ref_props:
            targets = find(definition, one.prop_name)["dataType"]
            if len(targets) > 1:
                raise Refused(f"target is a multi-target reference, need single target [{' '.join(targets)}]")
            properties[one.prop_name] = [{"beacon": f"{BEACON}{targets[0]}/{key}"} for key in one.uuids]
        for many in given.properties.multi_target_ref_props:
            targets = find(definition, many.prop_name)["dataType"]
            if len(targets) < 2:
                raise Refused(f"target is a single-target reference, need multi-target [{' '.join(targets)}]")
            beacons = [{"beacon": f"{BEACON}{many.target_collection}/{key}"} for key in many.uuids]
            properties.setdefault(many.prop_name, []).extend(beacons)
    if not given.uuid:
        raise Refused("invalid UUID length: 0")
    return NewObject(given.collection, given.uuid, given.tenant, properties, _vectors(given))


def _vectors(given: batch_pb2.BatchObject) -> dict[str, NDArray[np.float32]]:
    result = {each.name: vector(each) for each in given.vectors}
    unnamed = rows(given.vector_bytes, multi=False) if given.vector_bytes else np.array(given.vector, np.float32)
    if unnamed.size:
        result[""] = unnamed
    return result


def vector(given: base_pb2.Vectors) -> NDArray[np.float32]:
    """A vector, or several in two dimensions."""
    return rows(given.vector_bytes, multi=given.type == base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32)


def properties_of(given: Any) -> dict[str, Any]:
    """Properties in plain values: numbers of a Struct as `float`, elements of an int array as `int`."""
    result = {key: _plain(value) for key, value in given.non_ref_properties.fields.items()}
    for each in given.boolean_array_properties:
        result[each.prop_name] = list(each.values)
    for each in given.number_array_properties:
        numbers = np.frombuffer(each.values_bytes, "<f8").tolist() if each.values_bytes else list(each.values)
        result[each.prop_name] = numbers
    for each in given.text_array_properties:
        result[each.prop_name] = list(each.values)
    for each in given.int_array_properties:
        result[each.prop_name] = list(each.values)
    for each in given.object_properties:
        result[each.prop_name] = properties_of(each.value)
    for each in given.object_array_properties:
        result[each.prop_name] = [properties_of(value) for value in each.values]
    for name in given.empty_list_props:
        result[name] = []
    return result


def _plain(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            return _number(value.number_value)
        case "struct_value":
            return {key: _plain(inner) for key, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(inner) for inner in value.list_value.values]
        case "null_value" | None:
            return None
        case kind:
            return getattr(value, kind)


def _number(value: float) -> float | str:
    """What Go's structpb makes of a number: those that JSON cannot write become texts."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def target(near: base_search_pb2.NearVector, definition: dict[str, Any]) -> str:
    """The name of the vector that is searched.

    Raises:
        Refused: there is no such vector, or it is not clear which.
    """
    names = list(dict.fromkeys(near.targets.target_vectors or near.target_vectors))
    configs = vector_configs(definition)
    if not names and "" not in configs:
        if len(configs) > 1:
            raise Refused(
                f"extract target vectors: class {definition['class']} has multiple vectors, but no target vectors were "
                "provided"
            )
        names = list(configs)
    for name in names:
        if name not in configs or not name:
            raise Refused(
                f"extract target vectors: class {definition['class']} does not have named vector {name} configured. "
                f"Available named vectors [{' '.join(one for one in configs if one)}]"
            )
    if len(names) > 1:
        raise Refused("the stand-in does not play searches of several vectors at once")
    return names[0] if names else ""


def query(near: base_search_pb2.NearVector) -> NDArray[np.float32]:
    """The vector that is searched for.

    Raises:
        Refused: there is none, or more than one.
    """
    if len(near.vectors) > 1:
        raise Refused(f"near_vector: only 1 vector supported, found {len(near.vectors)} vectors")
    if near.vectors:
        return vector(near.vectors[0])
    if near.vector_bytes or near.vector:
        return rows(near.vector_bytes, multi=False) if near.vector_bytes else np.array(near.vector, np.float32)
    return _only(
        [*_for_targets(near.vector_for_targets), *(rows(v, multi=False) for v in near.vector_per_target.values())]
    )


def _for_targets(given: Iterable[base_search_pb2.VectorForTarget]) -> list[NDArray[np.float32]]:
    found = []
    for each in given:
        found += [vector(one) for one in each.vectors] if each.vectors else [rows(each.vector_bytes, multi=False)]
    return found


def _only(found: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if not found:
        raise Refused("near_vector: vector is required")
    if len(found) > 1:
        raise Refused("the stand-in does not play searches for several vectors at once")
    return found[0]
