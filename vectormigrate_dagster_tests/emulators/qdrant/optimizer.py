"""What a collection's optimizer does: it indexes what is larger than its threshold, and says whether it is at work.

https://github.com/qdrant/qdrant/blob/v1.19.0/lib/collection/src/shards/local_shard/mod.rs (`local_shard_status`)
"""

from __future__ import annotations

from qdrant_client import models

_DEFAULT_KB = 10_000
"""Of a collection without a threshold of its own (lib/shard/src/optimizers/config.rs)."""


class Optimizer:
    """Yellow while there is something to index, green when there is not; 0 as threshold indexes nothing.

    The index is built between two looks at the status, so that whoever waits for it has to wait.
    """

    def __init__(self) -> None:
        self._indexed_bytes = 0
        self._indexed_points = 0

    def look(self, config: models.OptimizersConfig, size: int, points: int) -> tuple[models.CollectionStatus, int]:
        """The status, and how many points are indexed.

        Args:
            config: of the optimizer, as it is now.
            size: bytes of all vectors.
            points: how many there are.
        """
        threshold = _DEFAULT_KB if config.indexing_threshold is None else config.indexing_threshold
        self._indexed_bytes, self._indexed_points = min(self._indexed_bytes, size), min(self._indexed_points, points)
        indexed = self._indexed_points
        if not threshold or size - self._indexed_bytes < threshold * 1024:
            return models.CollectionStatus.GREEN, indexed
        self._indexed_bytes, self._indexed_points = size, points
        return models.CollectionStatus.YELLOW, indexed
