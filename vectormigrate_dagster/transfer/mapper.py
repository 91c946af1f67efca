"""What a transfer asks of a mapping: batches of the source in, batches of the target out."""

from __future__ import annotations

from typing import Protocol

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.model import Batch, Id, IdKind, Split


class Mapped(Protocol):
    """One batch of the source as the target takes it; every record is in one batch or is refused."""

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Batches to write, each of one scope and one id kind of the target."""

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Records that the target cannot hold."""


class Mapper(Protocol):
    """Maps records; the same record always gives the same result, from whichever thread it is asked."""

    def map(self, batch: Batch) -> Mapped:
        """Map a batch of the source."""

    @property
    def keeps_ids_apart(self) -> bool:
        """Whether no two records of the source can become one, whatever is in it."""

    def target_split(self, split: Split) -> Split | None:
        """The part of the target that holds the records of a split and no others, in the same order, if there is one.

        The parts for all splits of a scope and kind tile a scope and kind of the target.
        """

    def original_ids(self, batch: Batch) -> list[tuple[IdKind, Id]]:
        """Source ids of the records of a mapped batch, in their order."""

    def original_scopes(self, batch: Batch) -> list[str | None]:
        """Source scopes of the records of a mapped batch, in their order."""
