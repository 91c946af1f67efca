"""One text field of a record that keeps, exactly, payload values for which the target has no place of their own.

The field holds a JSON object, key of the source -> value, in one canonical spelling (sorted keys, no spaces, characters
as they are), so that the same values always give the same text, in whatever order a database returns keys.
"""

from __future__ import annotations

import json
from typing import Any

from vectormigrate_dagster.model import Payload

_ENCODE = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, sort_keys=True, separators=(",", ":")
).encode


def packed(values: Payload) -> str:
    """The text that stands for `values`.

    Raises:
        ValueError: a number is NaN or infinite, for which JSON has no form.
        TypeError: a value is not JSON.
    """
    return _ENCODE(values)


def unpacked(value: Any) -> Payload | None:
    """The values that a text stands for; None if `packed` did not write it."""
    if not isinstance(value, str) or not value.startswith('{"'):
        return None
    try:
        values = json.loads(value)
        return values if isinstance(values, dict) and values and _ENCODE(values) == value else None
    except (ValueError, RecursionError):
        return None
