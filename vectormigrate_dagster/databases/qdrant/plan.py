"""Where to cut the ids of one Qdrant scope: at quantiles of a sample, in O(splits) calls.

A split must be a range of ids, because the last id read is where a scan goes on. Slices (1.19) divide by a hash of the
id, so they are no ranges; but one slice of n is an even, repeatable sample of a collection, whatever its ids are. Older
servers draw at random; still older ones (before 1.11) cannot, and each kind of id is one split there.
https://qdrant.tech/documentation/concepts/filtering/#slice
"""

from __future__ import annotations

import math
from typing import Any

from vectormigrate_dagster.databases.qdrant.capabilities import SAMPLES, SLICES
from vectormigrate_dagster.databases.qdrant.records import id_of, kind_of
from vectormigrate_dagster.databases.qdrant.scopes import shard_key_of
from vectormigrate_dagster.databases.splits import cut
from vectormigrate_dagster.databases.version import Version
from vectormigrate_dagster.model import Id, IdKind, Split

_SAMPLE_PER_SPLIT = 20
_SAMPLE_AT_LEAST = 10_000
_SPARE_CALLS = 2
_MAX_SLICES = 2**31


def plan_scope(
    client: Any,
    collection: str,
    *,
    total: int,
    target_records: int,
    scope: str | None,
    page: int,
    version: Version,
) -> list[Split]:
    """Tile the ids of one scope into splits of about `target_records`.

    Args:
        total: records in the scope.
        page: most records of one read.
        version: of the server; (0, 0) is the embedded mode.
    """
    parts = math.ceil(total / target_records)
    wanted = min(total, max(_SAMPLE_AT_LEAST, _SAMPLE_PER_SPLIT * parts), page * (parts + _SPARE_CALLS))
    ids: list[Id] = []
    if wanted and (version >= SLICES or wanted == total):
        ids = _slice(client, collection, total=total, wanted=wanted, scope=scope, page=page)
    elif wanted and (version >= SAMPLES or version == (0, 0)):
        ids = _random(client, collection, wanted=wanted, scope=scope, page=page)
    splits = []
    for kind in (IdKind.U64, IdKind.UUID):
        known = sorted(value for value in ids if kind_of(value) is kind)
        splits += cut(kind, known, total / max(1, len(ids)), target_records, scope)
    return splits


def _slice(client: Any, collection: str, *, total: int, wanted: int, scope: str | None, page: int) -> list[Id]:
    """All ids of one slice of about `wanted` records."""
    from qdrant_client import models

    slices = min(_MAX_SLICES, max(1, total // wanted))
    one = models.SliceCondition(slice=models.Slice(total=slices, index=0))
    ids: list[Id] = []
    start: Any = None
    while True:
        points, start = client.scroll(
            collection,
            scroll_filter=models.Filter(must=[one]) if slices > 1 else None,
            limit=page,
            offset=start,
            with_payload=False,
            with_vectors=False,
            shard_key_selector=shard_key_of(scope),
        )
        ids += [id_of(point.id) for point in points]
        if start is None:
            return ids


def _random(client: Any, collection: str, *, wanted: int, scope: str | None, page: int) -> list[Id]:
    """Up to `wanted` ids drawn at random, in as many calls as pages of that many records take."""
    from qdrant_client import models

    ids: set[Id] = set()
    for _ in range(math.ceil(wanted / page)):
        sample = client.query_points(
            collection,
            query=models.SampleQuery(sample=models.Sample.RANDOM),
            limit=min(page, wanted),
            with_payload=False,
            shard_key_selector=shard_key_of(scope),
        )
        ids |= {id_of(point.id) for point in sample.points}
    return list(ids)
