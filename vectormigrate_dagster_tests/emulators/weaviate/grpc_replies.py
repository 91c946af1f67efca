"""What gRPC replies say of an object (adapters/handlers/grpc/v1/prepare_reply.go and mapping.go of server 1.39)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from weaviate.proto.v1 import base_pb2, properties_pb2, search_get_pb2

from vectormigrate_dagster_tests.emulators.weaviate.engine import Engine
from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.gotext import lower_first
from vectormigrate_dagster_tests.emulators.weaviate.index_config import is_multi
from vectormigrate_dagster_tests.emulators.weaviate.schema import vector_configs
from vectormigrate_dagster_tests.emulators.weaviate.shard import StoredObject
from vectormigrate_dagster_tests.emulators.weaviate.values import NESTED, find, is_reference, parse_beacon

Write = Callable[[Any, Any], None]
"""Writes a stored value into a message of type Value."""


@dataclass(frozen=True)
class Selection:
    """Properties that a reply shows: values by the function that writes each, and references by what they show."""

    values: dict[str, Write]
    references: dict[str, search_get_pb2.RefPropertiesRequest]


def selection(definition: dict[str, Any], request: search_get_pb2.PropertiesRequest | None) -> Selection:
    """The properties that a request asks for; without any request all but references and blobs.

    Raises:
        Refused: the class has no such property.
    """
    values: dict[str, Write] = {}
    if request is None or request.return_all_nonref_properties:
        for each in definition["properties"]:
            if not is_reference(each["dataType"]) and each["dataType"][0] != "blob":
                values[each["name"]] = writer(each)
    if request is None:
        return Selection(values, {})
    if not request.return_all_nonref_properties:
        for name in request.non_ref_properties:
            values[lower_first(name)] = writer(find(definition, lower_first(name)))
    for one in request.object_properties:
        values[lower_first(one.prop_name)] = writer(find(definition, lower_first(one.prop_name)), one)
    references = {lower_first(one.reference_property): one for one in request.ref_properties}
    for name in references:
        find(definition, name)
    return Selection(values, references)


def result(
    engine: Engine, definition: dict[str, Any], stored: StoredObject, chosen: Selection, tenant: str
) -> search_get_pb2.PropertiesResult:
    """The properties of an object; those it does not have are null."""
    reply = search_get_pb2.PropertiesResult(
        target_collection=definition["class"], ref_props_requested=bool(chosen.references)
    )
    fields = reply.non_ref_props.fields
    for name, write in chosen.values.items():
        value = stored.properties.get(name)
        if value is None:
            fields[name].null_value = 0
        else:
            write(fields[name], value)
    for name, asked in chosen.references.items():
        if name in stored.properties:
            _add_references(engine, reply, name, asked, stored.properties[name], tenant)
    return reply


def _add_references(
    engine: Engine,
    reply: search_get_pb2.PropertiesResult,
    name: str,
    asked: search_get_pb2.RefPropertiesRequest,
    beacons: list[str],
    tenant: str,
) -> None:
    shown = reply.ref_props.add(prop_name=name)
    for each in beacons:
        class_name, key = parse_beacon(each)
        if asked.target_collection and class_name != asked.target_collection:
            continue
        target = engine.find(class_name)
        if target is None:
            continue
        found = target.shard(tenant if target.has_tenants else "").get(key)
        if found is None:
            continue  # what a reference points to may be deleted
        inner = selection(target.definition, asked.properties if asked.HasField("properties") else None)
        properties = result(engine, target.definition, found, inner, tenant)
        if asked.HasField("metadata"):
            properties.metadata.CopyFrom(metadata(target.definition, found, asked.metadata))
        shown.properties.append(properties)


def metadata(
    definition: dict[str, Any], stored: StoredObject, asked: search_get_pb2.MetadataRequest
) -> search_get_pb2.MetadataResult:
    """What a request asks for beside the properties; the deprecated list of floats is left out."""
    reply = search_get_pb2.MetadataResult()
    if asked.uuid:
        reply.id, reply.id_as_bytes = stored.id, uuid.UUID(stored.id).bytes
    if asked.creation_time_unix:
        reply.creation_time_unix, reply.creation_time_unix_present = stored.created, True
    if asked.last_update_time_unix:
        reply.last_update_time_unix, reply.last_update_time_unix_present = stored.updated, True
    configs = vector_configs(definition)
    if asked.vector and "" in stored.vectors:
        reply.vector_bytes = stored.vectors[""]
    named = [name for name in configs if name] if asked.vector else [name for name in asked.vectors if name in configs]
    for name in named:
        if name in stored.vectors:
            multi = is_multi(configs[name])
            kind = base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32 if multi else base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32
            reply.vectors.add(name=name, vector_bytes=stored.vectors[name], type=kind)
    return reply


def writer(each: dict[str, Any], asked: search_get_pb2.ObjectPropertiesRequest | None = None) -> Write:
    """What writes the values of a property."""
    kind = each["dataType"][0]
    if kind in NESTED:
        return _object_writer(each, kind, asked)
    if kind.endswith("[]"):
        return _ARRAYS[kind]
    if kind in _FIELDS:
        field = _FIELDS[kind]
        return lambda message, value: setattr(message, field, value)
    return {"int": _int, "geoCoordinates": _geo, "phoneNumber": _phone}[kind]


_FIELDS = {
    "text": "text_value",
    "string": "text_value",
    "number": "number_value",
    "boolean": "bool_value",
    "date": "date_value",
    "uuid": "uuid_value",
    "blob": "blob_value",
}


def _int(message: properties_pb2.Value, value: float) -> None:
    message.int_value = _int64(value)


def _int64(value: float) -> int:
    """As Go turns a float64 into an int64 on amd64: what does not fit becomes the smallest one."""
    whole = int(value)
    return whole if -(2**63) <= whole < 2**63 else -(2**63)


def _geo(message: properties_pb2.Value, value: dict[str, float]) -> None:
    message.geo_value.latitude, message.geo_value.longitude = value["latitude"], value["longitude"]


def _phone(message: properties_pb2.Value, value: dict[str, Any]) -> None:
    for name, field in (("input", "input"), ("defaultCountry", "default_country"), ("national", "national")):
        if name in value:
            setattr(message.phone_value, field, value[name])
    message.phone_value.valid = value["valid"]


def _texts(field: str) -> Write:
    def write(message: properties_pb2.Value, values: list[Any]) -> None:
        kind = getattr(message.list_value, field)
        kind.SetInParent()
        kind.values.extend(values)

    return write


def _numbers(message: properties_pb2.Value, values: list[float]) -> None:
    message.list_value.number_values.values = np.array(values, "<f8").tobytes()
    message.list_value.number_values.SetInParent()


def _ints(message: properties_pb2.Value, values: list[float]) -> None:
    message.list_value.int_values.values = np.array([_int64(value) for value in values], "<i8").tobytes()
    message.list_value.int_values.SetInParent()


_ARRAYS: dict[str, Write] = {
    "text[]": _texts("text_values"),
    "string[]": _texts("text_values"),
    "boolean[]": _texts("bool_values"),
    "date[]": _texts("date_values"),
    "uuid[]": _texts("uuid_values"),
    "number[]": _numbers,
    "int[]": _ints,
}


def _object_writer(
    each: dict[str, Any], kind: str, asked: search_get_pb2.ObjectPropertiesRequest | None, *, inside: bool = False
) -> Write:
    writers = _nested_writers(each, asked)

    def fill(message: properties_pb2.Properties, value: dict[str, Any]) -> None:
        message.SetInParent()
        for name, write in writers.items():
            if name in value:
                if value[name] is None:
                    message.fields[name].null_value = 0
                else:
                    write(message.fields[name], value[name])

    def one(message: properties_pb2.Value, value: dict[str, Any]) -> None:
        if not inside:
            _as_a_server_reads_it(value)
        fill(message.object_value, value)

    def many(message: properties_pb2.Value, values: list[dict[str, Any]]) -> None:
        if not inside and values and all(isinstance(value.get("beacon"), str) for value in values):
            raise Refused("creating object value: invalid type: models.MultipleRef expected []map[string]interface{}")
        message.list_value.object_values.SetInParent()
        for value in values:
            fill(message.list_value.object_values.values.add(), value)

    return one if kind == "object" else many


def _as_a_server_reads_it(value: dict[str, Any]) -> None:
    """A server takes any object of these two keys for coordinates when it reads, and cannot show it then.

    entities/storobj/enrich_schema_datatypes.go of server 1.39, parseMapProp.
    """
    if value.keys() == {"latitude", "longitude"}:
        raise Refused("creating object value: invalid type: *models.GeoCoordinates expected map[string]interface{}")


def _nested_writers(each: dict[str, Any], asked: search_get_pb2.ObjectPropertiesRequest | None) -> dict[str, Write]:
    nested = {one["name"]: one for one in each.get("nestedProperties") or []}
    if asked is None:
        return {name: _nested_writer(one) for name, one in nested.items() if one["dataType"][0] != "blob"}
    writers = {name: _nested_writer(nested[name]) for name in asked.primitive_properties if name in nested}
    for inner in asked.object_properties:
        if inner.prop_name in nested:
            writers[inner.prop_name] = _nested_writer(nested[inner.prop_name], inner)
    return writers


def _nested_writer(each: dict[str, Any], asked: search_get_pb2.ObjectPropertiesRequest | None = None) -> Write:
    kind = each["dataType"][0]
    return _object_writer(each, kind, asked, inside=True) if kind in NESTED else writer(each)
