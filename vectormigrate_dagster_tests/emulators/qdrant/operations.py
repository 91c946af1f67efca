"""Changes to points, as both faces hand them to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from vectormigrate_dagster_tests.emulators.qdrant.points import Point, PointId

Selector = list[PointId] | models.Filter
"""The points that a change is for."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A change; `shard_keys` is None where the client named none."""

    shard_keys: Sequence[int | str] | None = None


@dataclass(frozen=True, kw_only=True)
class Upsert(Operation):
    points: list[Point]
    update_filter: models.Filter | None = None
    mode: models.UpdateMode | None = None


@dataclass(frozen=True, kw_only=True)
class UpdateVectors(Operation):
    points: list[Point]
    update_filter: models.Filter | None = None


@dataclass(frozen=True, kw_only=True)
class Delete(Operation):
    selector: Selector


@dataclass(frozen=True, kw_only=True)
class DeleteVectors(Operation):
    selector: Selector
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class SetPayload(Operation):
    selector: Selector
    payload: dict[str, Any]
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class OverwritePayload(Operation):
    selector: Selector
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DeletePayload(Operation):
    selector: Selector
    keys: list[str]


@dataclass(frozen=True, kw_only=True)
class ClearPayload(Operation):
    selector: Selector
