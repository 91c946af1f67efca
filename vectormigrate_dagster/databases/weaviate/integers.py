"""Integers that gRPC spoils: a server keeps them as float64, and turns those beyond int64 into an int64 at its end.

`int64(float64)` of 2^63 is -2^63 in Go on amd64 (adapters/handlers/grpc/v1/prepare_reply.go of
https://github.com/weaviate/weaviate; seen of server 1.39). REST tells them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectormigrate_dagster.model import FieldSchema, FieldType

SPOILT = (-(2**63), 2**63 - 1)
"""The second is what arm64 makes of them."""


def names_of_integers(fields: Sequence[FieldSchema]) -> list[str]:
    """Properties that are integers, or hold some."""
    return [
        field.name
        for field in fields
        if FieldType.INT64 in (field.type, field.element) or names_of_integers(field.fields)
    ]


def is_doubtful(value: Any) -> bool:
    """Whether a value is, or holds, an integer that may be another one."""
    if isinstance(value, dict):
        return any(is_doubtful(one) for one in value.values())
    if isinstance(value, list):
        return any(is_doubtful(one) for one in value)
    return type(value) is int and value in SPOILT


def restored(value: Any, stored: Any) -> Any:
    """A value with its doubtful integers as REST tells them.

    Args:
        value: as gRPC tells it.
        stored: the same value as REST tells it, with the shortest digits that name the float64.
    """
    if isinstance(value, dict) and isinstance(stored, dict):
        return {name: restored(one, stored.get(name)) for name, one in value.items()}
    if isinstance(value, list) and isinstance(stored, list) and len(value) == len(stored):
        return [restored(*pair) for pair in zip(value, stored, strict=True)]
    if is_doubtful(value) and isinstance(stored, int | float):
        return int(float(stored))
    return value
