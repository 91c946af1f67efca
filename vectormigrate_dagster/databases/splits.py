"""Splits out of a sample of ids."""

from __future__ import annotations

import itertools
import math
from typing import Any

from vectormigrate_dagster.model import Id, IdKind, Split, tile


def cut(kind: IdKind, ids: list[Any], weight: float, target_records: int, scope: str | None) -> list[Split]:
    """Splits of about `target_records`, cut at quantiles of sorted `ids`, each of which stands for `weight` records."""
    parts = max(1, min(len(ids), math.ceil(len(ids) * weight / target_records)))
    edges = [len(ids) * i // parts for i in range(parts + 1)]
    sizes = [round((high - low) * weight) for low, high in itertools.pairwise(edges)]
    return tile(kind, [ids[edge - 1] for edge in edges[1:-1]], scope=scope, records=sizes)


def cut_at(bounds: list[Id], total: int, kind: IdKind, scope: str | None) -> list[Split]:
    """Splits of `total` records, cut after each of `bounds`, which are their quantiles."""
    parts = len(bounds) + 1
    edges = [total * i // parts for i in range(parts + 1)]
    return tile(kind, bounds, scope=scope, records=[high - low for low, high in itertools.pairwise(edges)])
