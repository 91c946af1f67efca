"""A source whose every call is repeated while it fails for a while; for planning, which makes one of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from vectormigrate_dagster.databases.source import FieldSource, Source
from vectormigrate_dagster.model import Batch, Split
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.throttle import Throttle

T = TypeVar("T")


class PatientSource(Source):
    """Another source, with the retries and the rate of `throttle.source`; only `ping` asks once.

    Each method raises what the source raises for longer than the retry policy allows.
    """

    def __init__(self, source: Source, throttle: Throttle) -> None:
        super().__init__(source)
        self._source = source
        self._throttle = throttle

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; after a failure it goes on behind the last record that was read."""
        return read_split(self._source, split, throttle=self._throttle, after=after, batch_records=batch_records)

    def scan_field(
        self,
        split: Split,
        after: str | None = None,
        batch_records: int = 1000,
        *,
        field: str,
        at_least: float | None = None,
    ) -> Iterator[Batch]:
        """See `Database.scan_field`; after a failure it goes on like `scan`."""
        source = FieldSource(self._source, field, at_least)
        return read_split(source, split, throttle=self._throttle, after=after, batch_records=batch_records)

    @contextmanager
    def as_of_now(self) -> Iterator[None]:
        """See `Database.as_of_now`."""
        with ExitStack() as within:
            self._ask(lambda: within.enter_context(self._source.as_of_now()))
            yield

    def _ask(self, call: Callable[[], T]) -> T:
        return self._throttle.source.call(call)
