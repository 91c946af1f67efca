"""What every tier that looks at records has in common: batches in, one result out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vectormigrate_dagster.model import Batch
from vectormigrate_dagster.validation.report import TierResult


class Check(ABC):
    """Learns from batches as they pass by, then says what came out."""

    def add_source(self, batch: Batch) -> None:  # noqa: B027  # most checks need only what was promised
        """Learn from a batch of the source, before it is mapped."""

    @abstractmethod
    def add(self, part: Batch) -> None:
        """Learn from a promised batch."""

    @abstractmethod
    def result(self) -> TierResult:
        """What came out, after all batches were added."""
