"""How a Go program reads and writes texts: dates, UUIDs, and values within messages."""

from __future__ import annotations

import calendar
import re
import uuid
from typing import Any

_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:[.,](\d+))?(Z|[+-]\d{2}:\d{2})", flags=re.ASCII
)
_HEX = re.compile(r"[0-9a-fA-F]{32}")
_HYPHENATED = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class JsonNumber(str):
    """A number of a JSON document as Go's json.Number holds it: by its digits."""

    __slots__ = ()

    def int64(self) -> int:
        """The number as a 64 bit integer.

        Raises:
            ValueError: it is none, or it is written with a point or an exponent.
        """
        value = int(self)
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{self} is out of range")
        return value


def date(text: Any) -> str | None:
    """A date with a time zone as the server stores it and gives it back; None if it is no such date.

    Fractions end without zeros, at nanoseconds, and an offset of zero becomes `Z` (time.Time's MarshalJSON).
    """
    found = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    zone = found[8]
    if not 1 <= month <= 12 or not 1 <= day <= _days(year, month) or hour > 23 or minute > 59 or second > 59:
        return None
    if zone != "Z" and (int(zone[1:3]) > 23 or int(zone[4:]) > 59):
        return None
    fraction = (found[7] or "")[:9].rstrip("0")
    zone = "Z" if zone[1:] == "00:00" else zone
    return f"{text[:19]}{'.' if fraction else ''}{fraction}{zone}"


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if calendar.isleap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def parse_uuid(text: Any) -> uuid.UUID:
    """Read a UUID in any of the forms that github.com/google/uuid reads.

    Raises:
        ValueError: with the words of that library.
    """
    if not isinstance(text, str):
        raise ValueError("invalid UUID format")
    size = len(text.encode())
    plain = text
    if size == 45:
        if text[:9].lower() != "urn:uuid:":
            raise ValueError(f'invalid urn prefix: "{text[:9]}"')
        plain = text[9:]
    elif size == 38:
        if text[0] != "{" or text[-1] != "}":
            raise ValueError("invalid bracketed UUID format")
        plain = text[1:-1]
    elif size not in (32, 36):
        raise ValueError(f"invalid UUID length: {size}")
    if not (_HEX if size == 32 else _HYPHENATED).fullmatch(plain):
        raise ValueError("invalid UUID format")
    return uuid.UUID(plain)


def is_uuid(text: str) -> bool:
    try:
        parse_uuid(text)
    except ValueError:
        return False
    return True


def type_name(value: Any) -> str:
    """What Go prints for `%T` of a value of a request."""
    if value is None:
        return "<nil>"
    if isinstance(value, JsonNumber):
        return "json.Number"
    names = {bool: "bool", str: "string", int: "int64", float: "float64", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")


def show(value: Any) -> str:
    """What Go prints for `%v` of a value of a request."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case float():
            return _float(value)
        case list():
            return f"[{' '.join(show(each) for each in value)}]"
        case dict():
            return f"map[{' '.join(f'{key}:{show(value[key])}' for key in sorted(value))}]"
        case _:
            return str(value)


def _float(value: float) -> str:
    """Go's `%v`: the shortest digits, with an exponent from 1e21 on."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" in text:
        digits, exponent = text.split("e")
        return f"{digits.removesuffix('.0')}e{int(exponent):+03d}"
    return text


def upper_first(name: str) -> str:
    """The name of a class as the server stores it."""
    return name[:1].upper() + name[1:]


def lower_first(name: str) -> str:
    """The name of a property as the server stores it."""
    return name[:1].lower() + name[1:]
