"""Values of properties: from a server's messages, into them, and which of ours would not come back as they are.

A server keeps an int as a float64, a date as an instant with an offset, a coordinate as a float32, and no null at all;
it refuses or changes what does not fit: usecases/objects/validation/properties_validation.go of
https://github.com/weaviate/weaviate. A record with such a value is refused here, by its id.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.weaviate.capabilities import LARGEST_INT
from vectormigrate_dagster.model import FieldSchema, FieldType

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")
_DATE = re.compile(
    r"(?P<second>(?!0000)\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d{0,8}[1-9])?"
    r"(?:Z|[+-](?!00:00)(?:[01]\d|2[0-3]):[0-5]\d)"
)
"""A date as Go writes it again: no trailing zeros, at most nanoseconds, `Z` for UTC (time.RFC3339Nano)."""

_LOCAL = "weaviate://localhost"
_BEACON = re.compile(rf"{_LOCAL}/(?P<target>[A-Z][_0-9A-Za-z]{{0,254}})/(?P<id>[0-9a-f-]{{36}})")
_TAKEN_FOR_OTHERS = frozenset(
    frozenset(keys)
    for keys in (
        ("latitude", "longitude"),
        *(
            ("input", "internationalFormatted", "nationalFormatted", "national", "countryCode", *more)
            for more in ((), ("valid",), ("defaultCountry",), ("valid", "defaultCountry"))
        ),
    )
)
"""Keys by which a server takes a stored object for coordinates or a telephone number, whatever its property is.

No page that holds such an object can be read: entities/storobj/enrich_schema_datatypes.go.
"""

_SHOWN_CHARACTERS = 60


########################################################################
# Out of messages
########################################################################


def value_of(message: Any) -> Any:
    """The value in a `Value` message; None if it is null."""
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    value = getattr(message, kind)
    reader = _READERS.get(kind)
    return value if reader is None else reader(value)


def values_of(message: Any) -> dict[str, Any]:
    """The values in a `Properties` message."""
    return {name: value_of(value) for name, value in message.fields.items()}


def _list_of(message: Any) -> list[Any]:
    kind = message.WhichOneof("kind")
    if kind is None:
        return []
    values = getattr(message, kind).values
    if kind == "object_values":
        return [values_of(value) for value in values]
    width = _PACKED.get(kind)
    return list(values) if width is None else np.frombuffer(values, dtype=width).tolist()


def _phone_of(message: Any) -> dict[str, Any]:
    """What was written; the rest was derived from it."""
    country = {"defaultCountry": message.default_country} if message.default_country else {}
    return {"input": message.input, **country}


_PACKED = {"int_values": np.dtype("<i8"), "number_values": np.dtype("<f8")}
_READERS: dict[str, Callable[[Any], Any]] = {
    "object_value": values_of,
    "list_value": _list_of,
    "geo_value": lambda geo: {"latitude": geo.latitude, "longitude": geo.longitude},
    "phone_value": _phone_of,
}


########################################################################
# Into messages
########################################################################


def set_properties(message: Any, payload: Mapping[str, Any], fields: Mapping[str, FieldSchema]) -> None:
    """Write values into a `BatchObject.Properties` or an `ObjectPropertiesValue` message.

    References are left out, but for empty lists of them: see `beacons_of`.

    Args:
        message: to fill.
        payload: values in which `misfit` finds nothing wrong.
        fields: of the class or of the object, by name.
    """
    for name, value in payload.items():
        field = fields[name]
        if value is None:
            message.non_ref_properties.fields[name].null_value = 0
        elif isinstance(value, list):
            _add_list(message, name, value, field)
        elif field.type is FieldType.OBJECT:
            nested = message.object_properties.add(prop_name=name)
            nested.value.SetInParent()
            set_properties(nested.value, value, by_name(field.fields))
        else:
            _set_plain(message.non_ref_properties.fields[name], value)


def by_name(fields: Sequence[FieldSchema]) -> dict[str, FieldSchema]:
    """Fields by their names."""
    return {field.name: field for field in fields}


def beacons_of(payload: Mapping[str, Any], fields: Mapping[str, FieldSchema]) -> list[tuple[str, str]]:
    """Name of the property and beacon of everything that a record refers to."""
    names = [name for name in payload if fields[name].type is FieldType.REFERENCE]
    return [(name, beacon) for name in names for beacon in payload[name]]


def beacon_of(*path: str) -> str:
    """The address of an object or, with three parts, of a property of it."""
    return "/".join((_LOCAL, *path))


def _add_list(message: Any, name: str, values: list[Any], field: FieldSchema) -> None:
    if not values:
        message.empty_list_props.append(name)
    elif field.type is FieldType.REFERENCE:
        return
    elif field.element is FieldType.OBJECT:
        inner = by_name(field.fields)
        nested = message.object_array_properties.add(prop_name=name)
        for value in values:
            set_properties(nested.values.add(), value, inner)
    elif field.element is FieldType.FLOAT64:
        packed = np.asarray(values, dtype="<f8").tobytes()
        message.number_array_properties.add(prop_name=name, values_bytes=packed)
    elif field.element is FieldType.INT64:
        message.int_array_properties.add(prop_name=name, values=values)
    elif field.element is FieldType.BOOL:
        message.boolean_array_properties.add(prop_name=name, values=values)
    else:
        message.text_array_properties.add(prop_name=name, values=values)


def _set_plain(message: Any, value: Any) -> None:
    """Write a value into a `google.protobuf.Value`."""
    if isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int | float):
        message.number_value = value
    else:  # coordinates and telephone numbers
        for key, part in value.items():
            _set_plain(message.struct_value.fields[key], part)


########################################################################
# What does not fit
########################################################################


def misfit(payload: Mapping[str, Any], fields: Mapping[str, FieldSchema], *, within: bool = False) -> str | None:
    """Why a payload would not come back as it is; None if it would.

    Args:
        payload: values of a record.
        fields: of the class or of the object, by name.
        within: it is an object in a payload, which may hold nulls.
    """
    for name, value in payload.items():
        field = fields.get(name)
        if field is None:
            return f"its payload has a key '{name}', for which the collection has no property"
        reason = None if within and value is None else _misfit(value, field)
        if reason is not None:
            return f"'{name}' {reason}"
    return None


def unreadable(payload: Mapping[str, Any], fields: Mapping[str, FieldSchema]) -> str | None:
    """Why a server could store a payload in which `misfit` finds nothing wrong, and never return it; None if not."""
    for name, value in payload.items():
        field = fields[name]
        if field.type is FieldType.OBJECT and frozenset(value) in _TAKEN_FOR_OTHERS:
            return f"'{name}' has the keys {_shown(list(value))}, by which Weaviate takes an object for something else"
        if field.element is FieldType.OBJECT and value and all("beacon" in one for one in value):
            return f"'{name}' has a key 'beacon' in every object, by which Weaviate takes them for references"
    return None


def _misfit(value: Any, field: FieldSchema) -> str | None:
    if value is None:
        return "is null, which Weaviate does not store"
    if field.type is FieldType.REFERENCE:
        return _list_misfit(value, "a reference", lambda beacon: _beacon_misfit(beacon, field.targets))
    if field.type is not FieldType.ARRAY:
        return _plain_misfit(value, field.type, field.fields)
    element = field.element or FieldType.ANY
    return _list_misfit(value, "an element", lambda one: _plain_misfit(one, element, field.fields))


def _list_misfit(values: Any, what: str, check: Callable[[Any], str | None]) -> str | None:
    if type(values) is not list:
        return f"is {_shown(values)}, and the property is a list"
    reason = next((reason for value in values if (reason := check(value)) is not None), None)
    return None if reason is None else f"has {what} that {reason}"


def _plain_misfit(value: Any, type_: FieldType, fields: Sequence[FieldSchema]) -> str | None:
    if type_ is FieldType.OBJECT:
        if type(value) is not dict:
            return f"is {_shown(value)}, and the property is an object"
        reason = misfit(value, by_name(fields), within=True)
        return None if reason is None else f"is an object of which {reason}"
    accepted = _ACCEPTED.get(type_)
    if accepted is None or type(value) is not accepted:
        return f"is {_shown(value)}, and the property is {type_.value}"
    return _CHECKS[type_](value)


def _text_misfit(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which has no UTF-8 form"
    return None


def _int_misfit(value: int) -> str | None:
    fits = -LARGEST_INT <= value <= LARGEST_INT
    return None if fits else f"is {value}, and integers are exact up to 2^53 only"


def _float_misfit(value: float) -> str | None:
    return None if math.isfinite(value) else f"is {value}, which JSON has no number for"


def _date_misfit(value: str) -> str | None:
    written = _DATE.fullmatch(value)
    if written is not None and _is_date(written["second"]):
        return None
    return (
        f"is {_shown(value)}, which is no date such as 2024-01-31T23:59:59.5Z in the form in which it would come back"
    )


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _uuid_misfit(value: str) -> str | None:
    try:
        same = str(uuid.UUID(value)) == value
    except ValueError:
        same = False
    return None if same else f"is {_shown(value)}, which is no UUID in lower case with dashes"


def _geo_misfit(value: dict[str, Any]) -> str | None:
    parts = list(value.values())
    if set(value) != {"latitude", "longitude"} or any(type(part) is not float for part in parts):
        return f"is {_shown(value)}, and coordinates are {{'latitude': float, 'longitude': float}}"
    with np.errstate(over="ignore"):
        exact = all(float(np.float32(part)) == part for part in parts)
    return None if exact else f"is {_shown(value)}, and coordinates are float32"


def _phone_misfit(value: dict[str, Any]) -> str | None:
    whole = {"input"} <= set(value) <= {"input", "defaultCountry"}
    if not whole or any(type(part) is not str for part in value.values()) or value.get("defaultCountry") == "":
        return f"is {_shown(value)}, and a telephone number is {{'input': text, 'defaultCountry': text}}"
    if (country := value.get("defaultCountry", "")) != country.upper() or not country.isascii():
        return f"is {_shown(value)}, and its country comes back in capitals"
    return next((reason for part in value.values() if (reason := _text_misfit(part)) is not None), None)


def _blob_misfit(value: str) -> str | None:
    return None if _BASE64.fullmatch(value) else f"is {_shown(value)}, which is not base64"


def _beacon_misfit(value: Any, targets: Sequence[str]) -> str | None:
    parts = _BEACON.fullmatch(value) if type(value) is str else None
    if parts is None or _uuid_misfit(parts["id"]) is not None:
        return f"is {_shown(value)}, which is no beacon such as weaviate://localhost/Class/uuid"
    if parts["target"] not in targets:
        return f"points to '{parts['target']}', and possible are {', '.join(targets)}"
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"a {type(value).__name__}"


_ACCEPTED: dict[FieldType, type] = {
    FieldType.TEXT: str,
    FieldType.INT64: int,
    FieldType.FLOAT64: float,
    FieldType.BOOL: bool,
    FieldType.DATETIME: str,
    FieldType.UUID: str,
    FieldType.GEO: dict,
    FieldType.PHONE: dict,
    FieldType.BLOB: str,
}
_CHECKS: dict[FieldType, Callable[[Any], str | None]] = {
    FieldType.TEXT: _text_misfit,
    FieldType.INT64: _int_misfit,
    FieldType.FLOAT64: _float_misfit,
    FieldType.BOOL: lambda _: None,
    FieldType.DATETIME: _date_misfit,
    FieldType.UUID: _uuid_misfit,
    FieldType.GEO: _geo_misfit,
    FieldType.PHONE: _phone_misfit,
    FieldType.BLOB: _blob_misfit,
}
