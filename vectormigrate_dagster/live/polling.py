"""Find changes by a field that only grows, such as `updated_at`, where an application cannot report them.

A scan takes time, so what is changed while it runs may stay unseen although the scan meets a higher value. Hence each
poll reports from the highest value on that the poll *before the last one* had met: whatever the last one could not see
was written after it had begun, and so with no lower value. That holds without anybody's clock.

It sees no deletions, and no record that lacks the field.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.live.journal import Key
from vectormigrate_dagster.model import Batch, id_text

Unit = Literal["number", "time"]
Mark = int | float


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """How far polling has come; times are seconds since 1970.

    Args:
        unit: what the values are; all of a collection are of one.
        floor: the next poll reports values from here on, less the overlap.
        high: the highest value met so far.
    """

    unit: Unit
    floor: Mark
    high: Mark


def mark_of(value: Any) -> tuple[Unit, Mark] | None:
    """A field's value as something that can be compared; None if it is neither a number nor a time in ISO 8601."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return ("number", value) if abs(value) <= sys.float_info.max else None  # neither infinite, nor none, nor larger
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return "time", (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def mark_of_text(text: str) -> tuple[Unit, Mark]:
    """A value as somebody types it.

    Raises:
        ConfigurationError: it is neither a number nor a time.
    """
    for read in (int, float, str):
        try:
            found = mark_of(read(text))
        except ValueError:
            continue
        if found is not None:
            return found
    raise ConfigurationError(f"'{text}' is neither a number nor a time such as 2026-11-22T10:00:00Z")


class Poll:
    """One poll: shows which keys are to be looked at again, and where the next poll begins.

    Args:
        field: a top-level field of every record.
        after: how far the polls before have come; None reports nothing, and only finds the highest value.
        overlap: reported again each time, in the field's unit (seconds for times): what a clock may be behind others.
    """

    def __init__(self, field: str, after: Watermark | None, *, overlap: float) -> None:
        self._field = field
        self._after = after
        self._lowest: Mark = -math.inf if after is None else after.floor - overlap
        self._unit: Unit | None = None if after is None else after.unit
        self._high: Mark | None = None
        self.seen = self.without = 0

    @property
    def at_least(self) -> float | None:
        """What every number is above, or equal to, that is reported; for databases that can filter by it.

        None where they must not. A first poll has to meet the highest value. And of times databases parse fewer
        spellings than `mark_of`, and would leave the others out without a word.
        """
        if self._after is None or self._after.unit != "number" or not math.isfinite(self._lowest):
            return None
        nearest = float(self._lowest)  # which may be above a large integer
        return nearest if nearest <= self._lowest else math.nextafter(nearest, -math.inf)

    def changed(self, batches: Iterable[Batch]) -> Iterator[list[Key]]:
        """Yield the keys of records that may have changed, a list for each batch of the source."""
        for batch in batches:
            self.seen += len(batch)
            keys = [
                Key(batch.scope, batch.ids.kind, id_text(value))
                for value, payload in zip(batch.ids.to_pylist(), batch.payloads, strict=True)
                if self._is_changed(payload.get(self._field))
            ]
            if keys:
                yield keys

    def watermark(self) -> Watermark | None:
        """Where the next poll begins; None if no record has had the field yet."""
        if self._after is None:
            # Nothing was moved before this poll, so only what comes after it counts.
            known = self._unit is not None and self._high is not None
            return Watermark(unit=self._unit, floor=self._high, high=self._high) if known else None  # type: ignore[arg-type]  # known says so
        high = self._after.high if self._high is None else max(self._after.high, self._high)
        return replace(self._after, floor=self._after.high, high=high)

    def _is_changed(self, value: Any) -> bool:
        mark = mark_of(value)
        if mark is None or self._unit not in (None, mark[0]):
            self.without += 1
            return False
        self._unit, number = mark
        self._high = number if self._high is None else max(self._high, number)
        return self._after is not None and number >= self._lowest
