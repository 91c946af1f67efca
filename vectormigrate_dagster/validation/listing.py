"""Name what is wrong with records: for the mismatch file in full, for a report in short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.model import Batch, Id, IdKind, id_text
from vectormigrate_dagster.model.compare import Difference
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.validation.mismatches import Mismatch, MismatchKind
from vectormigrate_dagster.validation.report import Finding

Sink = Callable[[Iterable[Mismatch]], None]
"""Takes findings, such as `MismatchWriter.add`."""


def ignore(found: Iterable[Mismatch]) -> None:
    """Take findings that nobody wants a list of."""
    del found


@dataclass(frozen=True)
class Original:
    """A record of the source."""

    scope: str | None
    kind: IdKind
    id: Id


def original_of(mapper: Mapper, batch: Batch, row: int) -> Original | None:
    """The record of the source that a record of the target says it comes from; None if it says so of none."""
    one = batch.take([row])
    try:
        ((kind, value),) = mapper.original_ids(one)
    except (RefusedId, ValueError):
        return None
    (scope,) = mapper.original_scopes(one)
    return Original(scope, kind, value)


class Listing:
    """Turns rows of a promised and of a found batch into findings; digests are made of those rows alone."""

    def __init__(self, mapper: Mapper, promised: Batch, found: Batch) -> None:
        self._mapper = mapper
        self._promised = _Rows(promised)
        self._found = _Rows(found)

    def missing(self, texts: Iterable[str]) -> list[Mismatch]:
        """Records that should be there and are not."""
        return [self._record(MismatchKind.MISSING, text, "present", "missing") for text in texts]

    def unpromised(self, texts: Iterable[str]) -> list[Mismatch]:
        """Records that nobody promised."""
        return [self._record(MismatchKind.EXTRA, text, "absent", "present") for text in texts]

    def duplicates(self, texts: Iterable[str]) -> list[Mismatch]:
        """Records that are there more than once."""
        return [self._record(MismatchKind.DUPLICATE, text, "once", "more than once") for text in texts]

    def different(self, differences: Sequence[Difference]) -> list[Mismatch]:
        """What differs in records that are on both sides."""
        return [
            self._mismatch(MismatchKind.DIFFERENT, found.id, found.where, found.expected, found.actual, found.detail)
            for found in differences
        ]

    def _record(self, kind: MismatchKind, text: str, expected: str, actual: str) -> Mismatch:
        return self._mismatch(kind, text, "record", expected, actual, "")

    def _mismatch(  # noqa: PLR0917  # in the order of the file
        self, kind: MismatchKind, text: str, where: str, expected: str, actual: str, detail: str
    ) -> Mismatch:
        side = self._promised if self._promised.has(text) else self._found
        original = original_of(self._mapper, side.batch, side.row(text))
        return Mismatch(
            kind=kind,
            scope=side.batch.scope,
            id=text,
            id_kind=side.batch.ids.kind.value,
            source_scope=None if original is None else original.scope,
            source_id=None if original is None else id_text(original.id),
            source_id_kind=None if original is None else original.kind.value,
            where=where,
            expected=expected,
            actual=actual,
            detail=detail,
            promised_digest=self._promised.digest(text),
            found_digest=self._found.digest(text),
        )


class _Rows:
    """A batch whose rows are looked up by the text of their ids, when first asked for."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._known: dict[str, int] | None = None
        self._digests: dict[str, bytes] = {}

    def row(self, text: str) -> int:
        return self._rows()[text]

    def has(self, text: str) -> bool:
        return text in self._rows()

    def digest(self, text: str) -> bytes | None:
        if not self.has(text):
            return None
        if text not in self._digests:
            self._digests[text] = record_digests(self.batch.take([self.row(text)])).tobytes()
        return self._digests[text]

    def _rows(self) -> dict[str, int]:
        if self._known is None:
            self._known = {id_text(value): row for row, value in enumerate(self.batch.ids.to_pylist())}
        return self._known


def finding_of(mismatch: Mismatch) -> Finding:
    """The finding of a report that a row of the mismatch file is."""
    actual = f"{mismatch.actual} ({mismatch.detail})" if mismatch.detail else mismatch.actual
    return Finding(
        id=mismatch.id, where=mismatch.where, expected=mismatch.expected, actual=actual, scope=mismatch.scope
    )
