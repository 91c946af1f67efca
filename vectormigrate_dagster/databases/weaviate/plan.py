"""Where to cut the ids of one tenant: evenly between its first and about its last, in O(log) calls.

Random UUIDs fill their space evenly. Those that begin with a time (versions 1, 6 and 7) or with zeros lie close
together, so that cuts of the whole space would leave all of them in one split.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from vectormigrate_dagster.databases.splits import cut_at
from vectormigrate_dagster.model import IdKind, Split

FirstAfter = Callable[[uuid.UUID | None], uuid.UUID | None]
"""The smallest id behind one, or (None) of all; None if there is none."""

_LARGEST = 2**128 - 1
_FINENESS = 8
"""The last id is known to this fraction of a split."""


def splits_of(scope: str | None, total: int, target_records: int, first_after: FirstAfter) -> list[Split]:
    """Tile the ids of one tenant into splits of about `target_records`.

    Args:
        scope: the tenant.
        total: records in it.
        target_records: records that a split should hold.
        first_after: asks the server.
    """
    parts = max(1, -(-total // target_records))
    bounds = _bounds(parts, first_after) if parts > 1 else []
    return cut_at(list(bounds), total, IdKind.UUID, scope)


def _bounds(parts: int, first_after: FirstAfter) -> list[uuid.UUID]:
    first = first_after(None)
    if first is None:
        return []
    low, high = first.int, _last(first, parts, first_after)
    # Every bound belongs to the split before it, and the last split needs an id of its own.
    cuts = sorted({low + (high - low) * i // parts for i in range(1, parts)} - {high})
    return [uuid.UUID(int=cut) for cut in cuts]


def _last(first: uuid.UUID, parts: int, first_after: FirstAfter) -> int:
    """About the last id: an id that exists, or a little more than the last one."""
    known, beyond = first.int, _LARGEST
    while beyond - known > (beyond - first.int) // (_FINENESS * parts):
        middle = (known + beyond) // 2
        found = first_after(uuid.UUID(int=middle))
        if found is None:
            beyond = middle
        else:
            known = found.int
    return beyond
