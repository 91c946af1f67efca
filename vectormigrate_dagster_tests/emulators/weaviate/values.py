"""Values of properties: what the server accepts for each type, and what it stores.

usecases/objects/validation/properties_validation.go of server 1.39. Stored are: text, uuid, date and blob as `str`; int
and number as `float`, because that is all a server keeps; coordinates as a `dict` of float32; references as beacons.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.gotext import (
    JsonNumber,
    date,
    lower_first,
    parse_uuid,
    show,
    type_name,
)

BEACON = "weaviate://localhost/"
PRIMITIVE = ("text", "int", "number", "boolean", "date", "uuid", "geoCoordinates", "phoneNumber", "blob", "string")
ARRAYS = ("text[]", "int[]", "number[]", "boolean[]", "date[]", "uuid[]", "string[]")
NESTED = ("object", "object[]")

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")
_WORDS = {"int": "integer"}


def is_reference(data_type: list[str]) -> bool:
    """Whether a property refers to objects: its types are names of classes."""
    return data_type[0][:1].isupper()


def find(definition: dict[str, Any], name: str) -> dict[str, Any]:
    """The property of a class.

    Raises:
        Refused: there is none of this name.
    """
    for each in definition.get("properties") or []:
        if each["name"] == name:
            return each
    raise Refused(
        f"no such prop with name '{name}' found in class '{definition['class']}' in the schema. "
        "Check your schema files for which properties in this class are available"
    )


def stored(
    definition: dict[str, Any], properties: dict[str, Any], exists: Callable[[str, str], bool]
) -> dict[str, Any]:
    """All properties of an object in the form that is stored; those that are null are left out.

    Args:
        definition: the class.
        properties: as they came, names in any case of their first letter.
        exists: whether there is an object: class (empty for any) and id.

    Raises:
        Refused: a property is not declared, or a value is not of its type.
    """
    result = {}
    for key, value in properties.items():
        if value is None:
            continue
        name = lower_first(key)
        each = find(definition, name)
        if is_reference(each["dataType"]):
            result[name] = _references(each, value, definition["class"], exists)
        else:
            result[name] = _value(each, value, name, definition["class"])
    return result


def _value(each: dict[str, Any], value: Any, path: str, class_name: str) -> Any:
    kind = each["dataType"][0]
    if kind in NESTED:
        return _nested(each, kind, value, path, class_name)
    try:
        return _array(kind, value) if kind.endswith("[]") else _SINGLE[kind](value)
    except ValueError as error:
        word = _WORDS.get(kind.removesuffix("[]"), kind.removesuffix("[]")) + (" array" if kind.endswith("[]") else "")
        raise Refused(f"invalid {word} property '{path}' on class '{class_name}': {error}") from error


def _nested(each: dict[str, Any], kind: str, value: Any, path: str, class_name: str) -> Any:
    declared = {one["name"]: one for one in each.get("nestedProperties") or []}
    try:
        if kind == "object":
            return _object(declared, value, path, class_name)
        if not isinstance(value, list):
            raise Refused(f"not an object array, but {type_name(value)}")
        return [_element(declared, one, position, path, class_name) for position, one in enumerate(value)]
    except Refused as error:
        raise Refused(f"invalid {kind} property '{path}' on class '{class_name}': {error}") from error


def _element(declared: dict[str, Any], value: Any, position: int, path: str, class_name: str) -> Any:
    try:
        return _object(declared, value, path, class_name)
    except Refused as error:
        raise Refused(f"invalid object '{position}' in array: {error}") from error


def _object(declared: dict[str, Any], value: Any, path: str, class_name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"object must be a map, but got: {type_name(value)}")
    result = {}
    for key, inner in value.items():
        name = f"{path}.{key}"
        if key not in declared:
            raise Refused(f"unknown property '{name}'")
        try:
            # unlike above, null stays
            result[key] = None if inner is None else _value(declared[key], inner, name, class_name)
        except Refused as error:
            raise Refused(f"property '{name}': {error}") from error
    return result


def _array(kind: str, value: Any) -> list[Any]:
    single, word = _SINGLE[kind[:-2]], kind[:-2]
    word = "an integer" if word in ("int", "number") else f"a {word}"
    if not isinstance(value, list):
        raise ValueError(f"not {word} array, but {type_name(value)}")
    result = []
    for each in value:
        try:
            result.append(single(each))
        except ValueError as error:
            raise ValueError(f"invalid {word.split()[1]} array value: {show(value)}") from error
    return result


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"not a string, but {type_name(value)}")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"not a bool, but {type_name(value)}")
    return value


def _int(value: Any) -> float:
    if isinstance(value, JsonNumber):
        try:
            return float(value.int64())
        except ValueError as error:
            raise ValueError(f"the JSON number '{value}' could not be converted to an int") from error
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) <= 2**63:
        return value
    raise ValueError(f"requires an integer, the given value is '{show(value)}'")


def _number(value: Any) -> float:
    if isinstance(value, JsonNumber | int | float) and not isinstance(value, bool):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"the JSON number '{value}' could not be converted to a float.")
        return number
    raise ValueError(f"requires a float, the given value is '{show(value)}'")


def _date(value: Any) -> str:
    parsed = date(value)
    if parsed is None:
        raise ValueError(f"requires a string with a RFC3339 formatted date, but the given value is '{show(value)}'")
    return parsed


def _uuid(value: Any) -> str:
    try:
        return str(parse_uuid(value))
    except ValueError as error:
        raise ValueError(f"requires a string of UUID format, but the given value is '{show(value)}'") from error


def _blob(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"not a blob base64 string, but {type_name(value)}")
    if not _BASE64.fullmatch(value):  # an empty one neither
        raise ValueError("not a valid blob base64 string")
    return value


def _geo(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f"geoCoordinates must be a map, but got: {type_name(value)}")
    for name in ("longitude", "latitude"):
        if name not in value:
            raise ValueError(f"geoCoordinates is missing required field '{name}'")
    for name in ("longitude", "latitude"):
        if not isinstance(value[name], JsonNumber | float):
            raise ValueError(f"invalid {name}: must be json.Number or float, but got {type_name(value[name])}")
    return {name: float(np.float32(float(value[name]))) for name in ("latitude", "longitude")}


def _phone(value: Any) -> dict[str, Any]:
    """A server parses the number by the rules of its country; this stand-in looks for digits only.

    Of both, what comes back is the text that was given and the country in capitals
    (usecases/objects/validation/properties_validation.go: `phoneNumber`).
    """
    if not isinstance(value, dict):
        raise ValueError(f"phoneNumber must be a map, but got: {type_name(value)}")
    if "input" not in value:
        raise ValueError("phoneNumber is missing required field 'input'")
    if type(value["input"]) is not str:
        raise ValueError("phoneNumber.input must be a string")
    country = value.get("defaultCountry", "")
    if type(country) is not str:
        raise ValueError("phoneNumber.defaultCountry must be a string")
    digits = re.sub(r"\D", "", value["input"])
    if len(digits) < _FEWEST_DIGITS:
        raise ValueError("invalid phone number: the phone number supplied is not a number")
    if not (country or value["input"].lstrip().startswith("+")):
        raise ValueError(
            "invalid phone number: invalid or missing defaultCountry - this field is optional if the specified number "
            "is in the international format, but required if the number is in national format, use ISO 3166-1 alpha-2"
        )
    kept = {"defaultCountry": country.upper()} if country else {}
    return {"input": value["input"], **kept, "national": int(digits), "valid": True}


_FEWEST_DIGITS = 2
"""Of a telephone number."""


_SINGLE: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "string": _text,
    "int": _int,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "uuid": _uuid,
    "blob": _blob,
    "geoCoordinates": _geo,
    "phoneNumber": _phone,
}


def _references(each: dict[str, Any], value: Any, class_name: str, exists: Callable[[str, str], bool]) -> list[str]:
    if not isinstance(value, list):
        raise Refused(f"reference property is not a slice {show(value)}")
    return [beacon(each, one, class_name, exists) for one in value]


def beacon(each: dict[str, Any], value: Any, class_name: str, exists: Callable[[str, str], bool]) -> str:
    """One reference in the form that is stored.

    Raises:
        Refused: it is no reference, or what it points to does not exist.
    """
    if not isinstance(value, dict):
        raise Refused(f"reference property is not a map: {type_name(value)}")
    if type(value.get("beacon")) is not str:
        raise Refused(f"beacon property is not a string: {type_name(value.get('beacon'))}")
    target, name = parse_beacon(value["beacon"])
    if not target and len(each["dataType"]) == 1:
        target = each["dataType"][0]
    if not exists(target, name):
        raise Refused(f"invalid cref: 'cref' {class_name}:{each['name']}: no object with id {name} found")
    return BEACON + (f"{target}/{name}" if target else name)


def parse_beacon(text: str) -> tuple[str, str]:
    """The class (empty if none is named) and the id that a beacon points to.

    Raises:
        Refused: it is no beacon.
    """
    parts = text.removeprefix(BEACON).split("/")
    if not text.startswith(BEACON) or len(parts) not in (1, 2):
        raise Refused(f"invalid cref: path must be of format '<class>/<id>', but got '{text}'")
    try:
        return ("" if len(parts) == 1 else parts[0]), str(parse_uuid(parts[-1]))
    except ValueError as error:
        raise Refused("invalid cref: last part of URI must be a valid UUID") from error
