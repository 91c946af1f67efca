"""What may be demanded of vectors, given what the target does to them."""

from __future__ import annotations

from vectormigrate_dagster.model import Capabilities, CollectionSchema, Element, Metric, VectorKind
from vectormigrate_dagster.model.compare import Tolerance


def tolerance_of(schema: CollectionSchema, capabilities: Capabilities, min_cosine: float) -> Tolerance:
    """Bit equality, but for cosine vectors of a target that normalises: those keep only their directions.

    Of these, float32 ones must also be the promised vector scaled to length 1, component by component: each may be off
    by a millionth of itself, and the length by a few millionths, which is what rounding explains
    (`vector_compare.COMPONENT_ROUNDING`, `length_rounding`). So `min_cosine` alone decides only of vectors that the
    target rounds to smaller components.
    """
    if not capabilities.normalises_cosine:
        return Tolerance()
    scaled = [
        vector
        for vector in schema.vectors
        if vector.kind in {VectorKind.DENSE, VectorKind.MULTI} and vector.metric is Metric.COSINE
    ]
    return Tolerance(
        min_cosine={vector.name: min_cosine for vector in scaled},
        normalised=frozenset(vector.name for vector in scaled if vector.element is Element.FLOAT32),
    )
