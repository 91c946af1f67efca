"""What a record may be: its id, vectors and metadata, checked as a server does before it accepts a request."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from vectormigrate_dagster_tests.emulators.pinecone.errors import invalid
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_ID_BYTES, Settings

Metadata = dict[str, str | float | bool | list[str]]


@dataclass(frozen=True)
class Sparse:
    """A sparse vector: uint32 indices in ascending order, and their float32 values."""

    indices: np.ndarray
    values: np.ndarray

    def dot(self, other: Sparse) -> float | None:
        """Their product; None without a dimension in common."""
        _, mine, others = np.intersect1d(self.indices, other.indices, assume_unique=True, return_indices=True)
        if not len(mine):
            return None
        return float(self.values[mine].astype(np.float64) @ other.values[others].astype(np.float64))

    def plain(self) -> dict[str, Any]:
        return {"indices": self.indices, "values": self.values}


@dataclass(slots=True)
class Record:
    """One record: vectors by the name of their field (float32 arrays of one dimension if dense), and metadata.

    A document has texts too, which its schema declares and which no filter compares.
    """

    id: str
    vectors: dict[str, np.ndarray | Sparse] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def checked_id(value: Any) -> str:
    """An id: 1 to 512 ASCII characters without NUL."""
    if not isinstance(value, str) or not value:
        raise invalid("Vector ID must not be empty")
    if not value.isascii():
        raise invalid(f"Vector ID must be ASCII, but got '{value}'")
    if len(value) > MAX_ID_BYTES:
        raise invalid(f"Vector ID must be at most {MAX_ID_BYTES} characters, but got {len(value)}: '{value}'")
    if "\0" in value:
        raise invalid(f"Vector ID must not contain null characters, but got '{value}'")
    return value


def floats(values: Any, what: str) -> np.ndarray:
    """A list of JSON numbers as float32.

    Raises:
        Refused: it is none, or a number is out of range.
    """
    row = np.asarray(values if isinstance(values, list) else None)
    if row.ndim != 1 or (len(row) and row.dtype.kind not in "fiu"):
        raise invalid(f"{what}: expected a list of numbers")
    with np.errstate(over="ignore"):
        row = row.astype(np.float32)
    if not np.isfinite(row).all():
        raise invalid(f"{what}: number out of range")
    return row


def dense(values: Any, dimension: int, owner: str) -> np.ndarray:
    """A dense vector of the index's dimension, which is not all zeros."""
    row = floats(values, f"values of '{owner}'")
    if len(row) != dimension:
        raise invalid(f"Vector dimension {len(row)} does not match the dimension of the index {dimension}")
    if not row.any():
        raise invalid(
            f"Dense vectors must contain at least one non-zero value. Vector ID '{owner}' contains only zeros"
        )
    return row


def sparse(given: Any, settings: Settings, owner: str) -> Sparse:
    """A sparse vector with at least one value, and no index twice."""
    if not isinstance(given, dict) or not given.keys() <= {"indices", "values"}:
        raise invalid(f"Sparse vector of '{owner}' must have indices and values")
    indices, values = given.get("indices", []), floats(given.get("values", []), f"sparse values of '{owner}'")
    if not isinstance(indices, list) or not all(type(i) is int and 0 <= i < 2**32 for i in indices):
        raise invalid(f"Sparse indices of '{owner}' must be integers from 0 to 4294967295")
    if len(indices) != len(values):
        raise invalid("Sparse vector indices and values must be same length")
    if not indices:
        raise invalid("Sparse vector must contain at least one value")
    if len(indices) > settings.max_nonzeros:
        raise invalid(
            f"Sparse vector of '{owner}' has {len(indices)} values, which exceeds the limit of {settings.max_nonzeros}"
        )
    if len(set(indices)) != len(indices):
        raise invalid(f"Sparse vector of '{owner}' has duplicate indices")
    if not values.all():
        raise invalid(f"Sparse vector of '{owner}' must not contain zero values")
    order = np.argsort(indices, kind="stable")
    return Sparse(np.asarray(indices, dtype=np.uint32)[order], values[order])


def metadata(given: Any, settings: Settings) -> Metadata:
    """Metadata of a record: strings, numbers (as float64), booleans and lists of strings."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise invalid("Metadata must be an object")
    checked: Metadata = {}
    for key, value in given.items():
        if key.startswith("$"):
            raise invalid(f"Metadata key '{key}' must not start with '$'")
        if value is None and settings.null_metadata == "drop":
            continue
        checked[key] = _value(key, value)
    size = len(orjson.dumps(given))
    if size > settings.max_metadata_bytes:
        raise invalid(
            f"metadata size is {size} bytes, which exceeds the limit of {settings.max_metadata_bytes} bytes per vector"
        )
    return checked


def _value(key: str, value: Any) -> str | float | bool | list[str]:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    text = orjson.dumps(_as_floats(value)).decode()
    shown = text if len(text) <= 16 else f"{text[:16]}..."
    raise invalid(
        f"Metadata value must be a string, number, boolean or list of strings, got '{shown}' for field '{key}'"
    )


def _as_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_floats(each) for each in value]
    if isinstance(value, dict):
        return {key: _as_floats(each) for key, each in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def written(values: Metadata, settings: Settings) -> Metadata:
    """Metadata as an answer has it."""
    if settings.whole_numbers == "float":
        return values
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value
        for key, value in values.items()
    }
