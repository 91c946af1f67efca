"""What may be demanded of vectors, given what the target does to them."""

from __future__ import annotations

from vectormigrate_dagster.model import Capabilities, CollectionSchema, Metric, VectorKind
from vectormigrate_dagster.model.compare import Tolerance


def tolerance_of(schema: CollectionSchema, capabilities: Capabilities, min_cosine: float) -> Tolerance:
    """Bit equality, but for cosine vectors of a target that normalises: those keep only their directions."""
    if not capabilities.normalises_cosine:
        return Tolerance()
    return Tolerance(
        min_cosine={
            vector.name: min_cosine
            for vector in schema.vectors
            if vector.kind in {VectorKind.DENSE, VectorKind.MULTI} and vector.metric is Metric.COSINE
        }
    )
