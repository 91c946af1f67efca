"""What a target holds under any key, whatever is declared: which values stay themselves there."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.mapping.profiler import is_negative_zero, json_type
from vectormigrate_dagster.model import Capabilities, Payload

JSON_TYPES = 7
"""As many as `json_type` tells apart."""


class Limits(BaseModel):
    """What one payload of the target may hold, whatever its keys; None is no limit. See `Capabilities`.

    Args:
        types: JSON types of values.
        list_elements: JSON types of the elements of lists.
        nulls_in_objects: keys of declared objects may be null.
        reserved: keys that no value can stand under.
        floats: ints become floats.
        negative_zero: -0.0 keeps its sign.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_int: int
    max_int: int
    types: tuple[str, ...]
    list_elements: tuple[str, ...] | None = None
    nulls_in_objects: bool = False
    empty_lists: bool = True
    key_pattern: str | None = None
    reserved: tuple[str, ...] = ()
    floats: bool = False
    negative_zero: bool = True
    max_text_bytes: int | None = None
    max_payload_bytes: int | None = None

    @classmethod
    def of(cls, target: Capabilities, reserved: tuple[str, ...] = ()) -> Limits:
        """The limits that a database declares."""
        return cls(
            min_int=target.min_int,
            max_int=target.max_int,
            types=tuple(sorted(target.payload_types)),
            list_elements=None if target.list_elements is None else tuple(sorted(target.list_elements)),
            nulls_in_objects=target.nulls_in_objects,
            empty_lists=target.empty_lists,
            key_pattern=target.key_pattern,
            reserved=reserved,
            floats=target.numbers_are_floats,
            negative_zero=target.negative_zero,
            max_text_bytes=target.max_text_bytes,
            max_payload_bytes=target.max_payload_bytes,
        )

    @property
    def holds_all(self) -> bool:
        """Whether every JSON value stays itself under every key, as long as its ints have a sign and 63 bits."""
        unlimited = Limits(min_int=self.min_int, max_int=self.max_int, types=self.types)
        ints = self.min_int <= -(2**63) and self.max_int >= 2**63 - 1
        return self == unlimited and ints and len(self.types) == JSON_TYPES

    @property
    def max_bytes(self) -> int | None:
        """Bytes of a payload as JSON that keep both limits of size."""
        return min((size for size in (self.max_text_bytes, self.max_payload_bytes) if size is not None), default=None)

    def holds_key(self, key: str) -> bool:
        """Whether a value may stand under `key`."""
        possible = self.key_pattern is None or re.fullmatch(self.key_pattern, key, re.DOTALL) is not None
        return possible and key not in self.reserved

    def holds(self, value: Any) -> bool:
        """Whether a value stays itself, an int that becomes the same float aside. NaN is left to `payloads`.

        Raises:
            TypeError: it is not JSON.
        """
        kind = json_type(value)
        if kind not in self.types:
            return False
        if kind == "int":
            return bool(self.min_int <= value <= self.max_int)
        if kind == "float":
            return self.negative_zero or not is_negative_zero(value)
        return self._holds_list(value) if kind == "list" else True

    def written(self, value: Any) -> Any:
        """A value that is held, as the target gives it back."""
        return float(value) if self.floats and type(value) is int else value

    def all_written(self, payload: Payload) -> Payload:
        """A payload of which every value is held, as the target gives it back."""
        if self.floats and int in map(type, payload.values()):
            return {key: self.written(value) for key, value in payload.items()}
        return payload

    def _holds_list(self, values: list[Any]) -> bool:
        if not values:
            return self.empty_lists
        if self.list_elements is None:
            return True
        return all(json_type(value) in self.list_elements for value in values)


def is_finite(value: Any) -> bool:
    """Whether a value is no number that JSON has no form for."""
    return not isinstance(value, float) or math.isfinite(value)
