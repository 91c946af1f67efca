"""What may be demanded of vectors, given what the target does to them, and the source if it was written back to."""

from __future__ import annotations

from vectormigrate_dagster.mapping.schema import Mapping
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


def tolerance_between(
    mapping: Mapping, source: Capabilities, target: Capabilities, min_cosine: float, *, written_back: bool
) -> Tolerance:
    """What is demanded of the target's vectors, whichever side they were written to first.

    Args:
        mapping: the plan's.
        source, target: what the sides do to vectors.
        min_cosine: see `tolerance_of`.
        written_back: the target has been the primary, so the source may hold what the target was given, normalised. As
            long as it was not, what a source normalises it gives as the target must hold it, bit for bit.
    """
    there = tolerance_of(mapping.target_schema, target, min_cosine)
    if not written_back:
        return there
    back = tolerance_of(mapping.source_schema, source, min_cosine)
    names = {vector.source: vector.target for vector in mapping.vectors if not vector.unseen}
    cosines = {names[name]: least for name, least in back.min_cosine.items() if name in names}
    return Tolerance(
        min_cosine={**cosines, **there.min_cosine},
        normalised=there.normalised,
        written_back=frozenset(names[name] for name in back.normalised if name in names),
    )
