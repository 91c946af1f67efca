"""A mapper for tests of what goes on around a mapping: it changes nothing, and refuses on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.model import Batch, Id, IdKind, Split, id_text


@dataclass(frozen=True)
class SameMapped:
    """What `SameMapper` returns: the shape of `mapping.records.Mapped`."""

    batches: tuple[Batch, ...]
    refused: tuple[Refusal, ...] = ()


class SameMapper:
    """A mapper that changes nothing, and refuses the records that `refuse` gives a reason for."""

    def __init__(self, refuse: Callable[[Id], str | None] = lambda key: None) -> None:
        self.refuse = refuse

    def map(self, batch: Batch) -> SameMapped:
        """The batch without the refused records."""
        reasons = [self.refuse(key) for key in batch.ids.to_pylist()]
        kept = [row for row, reason in enumerate(reasons) if reason is None]
        refused = tuple(
            Refusal(id_text(batch.ids[row]), reason, batch.scope) for row, reason in enumerate(reasons) if reason
        )
        return SameMapped((batch.take(kept),) if kept else (), refused)

    @property
    def keeps_ids_apart(self) -> bool:
        """Ids do not change."""
        return True

    def target_split(self, split: Split) -> Split | None:
        """The same split."""
        return split

    def original_ids(self, batch: Batch) -> list[tuple[IdKind, Id]]:
        """The same ids."""
        return [(batch.ids.kind, key) for key in batch.ids.to_pylist()]

    def original_scopes(self, batch: Batch) -> list[str | None]:
        """The same scope."""
        return [batch.scope] * len(batch)
