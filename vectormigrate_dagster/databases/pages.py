"""How many records a reply should hold."""

from __future__ import annotations

TARGET_BYTES = 16 * 2**20
"""Of a reply; a quarter of the smallest limit on one message (Milvus 64 MB: https://milvus.io/docs/limitations.md)."""


class PageSize:
    """A number of records that follows what replies turn out to weigh.

    Args:
        limit: most records that may be asked for.
        record_bytes: what a record is thought to weigh at first.
    """

    def __init__(self, limit: int, record_bytes: int) -> None:
        self._limit = limit
        self.records = self._fitting(record_bytes)

    def learn(self, records: int, size: int) -> None:
        """Take into account that `records` weighed `size` bytes."""
        if records:
            # Records that weigh more may follow: grow slowly, shrink at once.
            self.records = min(self._fitting(-(-size // records)), 2 * self.records)

    def shrink(self) -> bool:
        """Halve it after a reply that was too large; False if it is one record already."""
        smaller = self.records > 1
        self.records = self._limit = max(1, self.records // 2)
        return smaller

    def _fitting(self, record_bytes: int) -> int:
        return max(1, min(self._limit, TARGET_BYTES // max(1, record_bytes)))
