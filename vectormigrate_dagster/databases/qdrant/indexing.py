"""How a Qdrant server is kept from indexing while it is loaded, and told to index again.

`indexing_threshold` 0 turns the building of HNSW graphs off; every point can be read and searched all the same. It is
one setting of the collection, where `m=0` is one of each vector that has an index of its own, and a segment that was
made with `m=0` is made twice: https://qdrant.tech/documentation/concepts/optimizer/#indexing-optimizer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_THRESHOLD = "indexing_threshold"


def settings_of(info: Any) -> dict[str, Any] | None:
    """What `deferred` would change of a collection; None where indexing cannot be deferred and put back as it was.

    It is off already where the threshold is 0. One that is not told cannot be set back to that. A collection with
    `prevent_unoptimized` shows nothing that is not indexed, so each write would wait for an index that never comes.
    """
    optimizer = info.config.optimizer_config
    if not optimizer.indexing_threshold or getattr(optimizer, "prevent_unoptimized", None):
        return None
    return {_THRESHOLD: optimizer.indexing_threshold}


def deferred() -> Any:
    """The client's `OptimizersConfigDiff` that turns indexing off."""
    return resumed({_THRESHOLD: 0})


def resumed(settings: Mapping[str, Any]) -> Any:
    """The client's `OptimizersConfigDiff` that puts back what `settings_of` told."""
    from qdrant_client import models

    return models.OptimizersConfigDiff(indexing_threshold=settings[_THRESHOLD])
