"""What becomes of vectors: name, kind, element, dimension, metric, and what records may hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.mapping.convert import WIDENING
from vectormigrate_dagster.mapping.indexes import map_vector_extras
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.mapping.profile_models import Profile, VectorProfile
from vectormigrate_dagster.mapping.vector_names import VectorNames
from vectormigrate_dagster.model import Capabilities, CollectionSchema, Element, Metric, VectorKind, VectorSchema


class VectorMapping(BaseModel):
    """What becomes of one vector.

    Args:
        before: its name before an earlier migration; "" for an unnamed one.
        widen: components become float32, exactly.
        required: the target holds no record without it.
        finite: the target refuses NaN and infinite components.
        unit: the target would alter a vector whose norm is not 1, and the owner has not allowed that.
        non_negative: the target refuses sparse weights below zero.
        nonzero: the target refuses a dense vector of zeros only, and a sparse one without an entry.
        max_nonzeros: most entries of a sparse vector.
        dim: components that the target expects; None for sparse vectors.
        unseen: no record had it when the plan was made, and the source does not say its dimension; the target has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    before: str = ""
    kind: VectorKind = VectorKind.DENSE
    dim: int | None = None
    widen: bool = False
    required: bool = False
    finite: bool = False
    unit: bool = False
    non_negative: bool = False
    nonzero: bool = False
    max_nonzeros: int | None = None
    unseen: bool = False

    @property
    def conversion(self) -> str:
        """What happens to components: `copy` or `widen_f32`."""
        return "widen_f32" if self.widen else "copy"


@dataclass(frozen=True)
class MappedVectors:
    """The vectors of a plan: what to do, what to create, what to report."""

    mappings: tuple[VectorMapping, ...]
    schemas: tuple[VectorSchema, ...]
    rows: tuple[LossRow, ...]


def map_vectors(
    source: CollectionSchema,
    source_capabilities: Capabilities,
    target: Capabilities,
    options: MappingConfig,
    profile: Profile,
    *,
    existing: CollectionSchema | None = None,
    marker: Mapping[str, Any] | None = None,
) -> MappedVectors:
    """Decide for each vector of the source.

    A vector is dropped, renamed or given another metric under the name `vector.NAME` in `mapping.drop`,
    `mapping.rename` and `mapping.types`.

    Args:
        marker: names that an earlier migration gave: name in the source -> name before.

    Raises:
        SchemaMismatch: the target collection exists and does not fit; the message lists every reason.
    """
    mappings: list[VectorMapping] = []
    schemas: list[VectorSchema] = []
    rows: list[LossRow] = []
    moved = [vector for vector in source.vectors if f"vector.{vector.name}" not in options.drop]
    namer = VectorNames(source_capabilities, target, options, marker or {}, moved)
    for vector in source.vectors:
        code = f"vector.{vector.name}"
        if vector not in moved:
            rows.append(_row(code, vector.name, (_describe(vector), "dropped"), Grade.EXACT, "as asked for"))
            continue
        decision = _Decision(vector, namer.name(vector), source_capabilities, target, options, profile, tuple(moved))
        mappings.append(decision.mapping().model_copy(update={"before": namer.before(vector)}))
        if decision.unseen:
            reason = "no record has it, and the source does not say how many components it would have"
            rows.append(_row(code, vector.name, (_describe(vector), "none"), Grade.EXACT, reason))
            continue
        rows += decision.rows(existing)
        schemas.append(decision.schema)
    rows += _count_rows(schemas, target)
    if existing is not None:
        _check_existing(schemas, existing)
    return MappedVectors(tuple(mappings), tuple(schemas), tuple(rows))


def _count_rows(schemas: list[VectorSchema], target: Capabilities) -> Iterator[LossRow]:
    """Rows for more vectors than a record of the target can have."""
    kinds = Counter(schema.kind for schema in schemas)
    beyond = [
        f"{count} {kind.value} vectors" for kind, count in kinds.items() if count > (target.max_per_kind or count)
    ]
    most = f"{target.max_per_kind} of a kind"
    if target.max_vectors is not None and len(schemas) > target.max_vectors:
        beyond, most = [f"{len(schemas)} vectors"], str(target.max_vectors)
    if beyond:
        yield LossRow(
            code="vectors.count",
            subject="vectors",
            source=", ".join(beyond),
            target=f"at most {most}",
            grade=Grade.REFUSED,
            reason=f"the target holds {most} per record; drop some under mapping.drop as vector.NAME",
        )


@dataclass(frozen=True)
class _Decision:
    vector: VectorSchema
    name: str
    source: Capabilities
    target: Capabilities
    options: MappingConfig
    profile: Profile
    moved: tuple[VectorSchema, ...]

    @property
    def code(self) -> str:
        return f"vector.{self.vector.name}"

    @property
    def seen(self) -> VectorProfile:
        """What records hold; a vector that no sampled record has is missing in all of them."""
        none = VectorProfile(missing=self.profile.records)
        return self.profile.vectors.get(self.vector.name, none)

    @property
    def element(self) -> Element:
        kept = self.vector.element in self.target.elements or self.vector.element not in WIDENING
        return self.vector.element if kept else Element.FLOAT32

    @property
    def metric(self) -> Metric | None:
        """The target's metric: asked for, the source's own, or the only one there is."""
        asked = self.options.types.get(self.code)
        if asked is not None and asked in set(Metric):
            return Metric(asked)
        if self.vector.metric is None:
            choices = self.target.metrics.get(self.vector.kind, ())
            return choices[0] if len(choices) == 1 else None
        if self.vector.kind is VectorKind.SPARSE and not self.target.metrics.get(VectorKind.SPARSE):
            # A database that attaches no metric to sparse vectors compares them by dot product.
            return None if self.vector.metric is Metric.DOT else self.vector.metric
        return self.vector.metric

    @property
    def dim(self) -> int | None:
        """Components: what the source says, else what records have (not every Weaviate says them)."""
        return self.vector.dim or self.seen.max_dim

    @property
    def unseen(self) -> bool:
        """Whether there is no such vector to move, and none could be created."""
        unknown = self.vector.kind is not VectorKind.SPARSE and self.dim is None
        return unknown and self.profile.complete and self.source.type != self.target.type

    @property
    def required(self) -> bool:
        """Whether the target holds no record without it."""
        beside = self.vector.kind is VectorKind.SPARSE and any(v.kind is not VectorKind.SPARSE for v in self.moved)
        return not self.target.missing_vectors and not (beside and self.target.missing_sparse)

    @property
    def schema(self) -> VectorSchema:
        """The vector to create."""
        extras, _ = map_vector_extras(self.vector, self.source, self.target)
        return VectorSchema(
            name=self.name,
            kind=self.vector.kind,
            element=self.element,
            dim=self.dim,
            metric=self.metric,
            optional=not self.required and (self.vector.optional or self.seen.missing > 0),
            **extras,
        )

    def mapping(self) -> VectorMapping:
        """What to do with each record's vector."""
        return VectorMapping(
            source=self.vector.name,
            target=self.name,
            kind=self.vector.kind,
            dim=self.dim,
            widen=self.element is not self.vector.element,
            required=self.required and not self.unseen,
            finite=not self.target.accepts_nan,
            unit=self._may_lose_norm() and f"{self.code}.norm" not in self.options.allow,
            non_negative=self.target.sparse_non_negative and self.vector.kind is VectorKind.SPARSE,
            nonzero=not self.target.zero_vectors,
            max_nonzeros=self.target.max_nonzeros if self.vector.kind is VectorKind.SPARSE else None,
            unseen=self.unseen,
        )

    def rows(self, existing: CollectionSchema | None) -> Iterator[LossRow]:
        """One row for the vector, one for its metric, and one for each thing that could be lost."""
        yield self._vector_row()
        yield self._metric_row()
        yield from self._data_rows()
        if existing is None:
            yield from map_vector_extras(self.vector, self.source, self.target)[1]

    def _vector_row(self) -> LossRow:
        vector, target = self.vector, self.target
        grade, reason = Grade.EXACT, "kept as it is"
        if vector.kind not in target.vector_kinds:
            grade, reason = Grade.REFUSED, f"the target holds no {vector.kind.value} vectors; {self._drop_advice()}"
        elif self.element not in target.elements and vector.kind is not VectorKind.SPARSE:
            reason = f"the target holds no {vector.element.value} vectors; {self._drop_advice()}"
            grade = Grade.REFUSED
        elif self.dim is None and vector.kind is not VectorKind.SPARSE and self.source.type != target.type:
            reason = f"the source does not say its dimension, and no sampled record has it; {self._drop_advice()}"
            grade = Grade.REFUSED
        elif self.dim is not None and self.dim > target.max_dim:
            grade, reason = Grade.REFUSED, f"the target holds up to {target.max_dim} components; {self._drop_advice()}"
        elif self.element is not vector.element:
            grade, reason = Grade.WIDENED, f"every {vector.element.value} is a float32"
        elif self.name != vector.name:
            given = vector.name in (self.source.default_vector_name, self.source.default_sparse_name)
            unnamed = vector.name == "" or (given and self.source.vector_name_is_given)
            wanted = unnamed or f"vector.{vector.name}" in self.options.rename
            grade = Grade.EXACT if wanted else Grade.WIDENED
            reason = f"called '{self.name}' in the target"
        return self._row("", _describe(vector), _describe(self.schema), grade, reason)

    def _metric_row(self) -> LossRow:
        vector, metric = self.vector, self.metric
        choices = self.target.metrics.get(vector.kind, ())
        before = vector.metric.value if vector.metric else "none"
        after = metric.value if metric else "none"
        known = ", ".join(m.value for m in choices) or "none"
        advice = f"write one of {known} under mapping.types as '{self.code}'"
        if metric is None and choices:
            row = (Grade.REFUSED, f"the source attaches no metric and the target needs one; {advice}")
        elif metric is not None and metric not in choices:
            row = (Grade.REFUSED, f"the target does not compare {vector.kind.value} vectors so; {advice}")
        elif metric is vector.metric or vector.metric is None or metric is None:
            row = (Grade.EXACT, "the same order of results")
        else:
            row = (Grade.LOSSY, "as asked for; results come in another order than in the source")
        return LossRow(
            code=f"{self.code}.metric",
            subject=f"metric of '{vector.name}'",
            source=before,
            target=after,
            grade=row[0],
            reason=row[1],
        )

    def _data_rows(self) -> Iterator[LossRow]:
        """What the profiled records hold that the target does not."""
        seen, of, listed = self.seen, self.profile.of, "such records are refused one by one and listed"
        if seen.missing and self.required:
            reason = f"{of(seen.missing)} lack it and the target needs it in every record; {listed}"
            yield self._row("missing", "may be missing", "required", Grade.LOSSY, reason)
        if seen.non_finite and not self.target.accepts_nan:
            reason = f"{of(seen.non_finite)} hold NaN or infinity; {listed}"
            yield self._row("nan", "NaN or infinity", "refused", Grade.LOSSY, reason)
        if seen.negative and self.target.sparse_non_negative:
            reason = f"{of(seen.negative)} hold a weight below zero; {listed}"
            yield self._row("negative", "weights below zero", "refused", Grade.LOSSY, reason)
        if seen.zero and not self.target.zero_vectors:
            reason = f"{of(seen.zero)} hold nothing but zeros, which the target refuses; {listed}"
            yield self._row("zero", "zeros only", "refused", Grade.LOSSY, reason)
        most = self.target.max_nonzeros
        if most is not None and seen.max_nnz > most:
            reason = f"sparse vectors of up to {seen.max_nnz:,} entries, the target holds {most:,}; {listed}"
            yield self._row("nonzeros", f"up to {seen.max_nnz:,} entries", f"{most:,} entries", Grade.LOSSY, reason)
        if not self._may_lose_norm():
            return
        if seen.non_unit:
            reason = f"{of(seen.non_unit)} do not have norm 1; the target normalises, so their norm is lost"
            yield self._row("norm", "any norm", "norm 1", Grade.LOSSY, reason)
        else:
            reason = "all have norm 1; the target normalises again, which may move the last bit of a component"
            yield self._row("norm", "norm 1", "norm 1", Grade.WIDENED, reason)

    def _may_lose_norm(self) -> bool:
        cosine = self.metric is Metric.COSINE and self.vector.kind is not VectorKind.SPARSE
        normalised = self.source.normalises_cosine and self.vector.metric is Metric.COSINE
        return cosine and self.target.normalises_cosine and not normalised

    def _drop_advice(self) -> str:
        return f"leave it behind with '{self.code}' under mapping.drop"

    def _row(self, what: str, source: str, target: str, grade: Grade, reason: str) -> LossRow:
        code = f"{self.code}.{what}" if what else self.code
        return _row(code, self.vector.name, (source, target), grade, reason)


def _row(code: str, name: str, change: tuple[str, str], grade: Grade, reason: str) -> LossRow:
    source, target = change
    return LossRow(code=code, subject=f"vector '{name}'", source=source, target=target, grade=grade, reason=reason)


def _describe(vector: VectorSchema) -> str:
    dim = f"({vector.dim})" if vector.dim is not None else ""
    return f"{vector.kind.value} {vector.element.value}{dim}"


def _check_existing(schemas: list[VectorSchema], existing: CollectionSchema) -> None:
    """Compare what the plan needs with what the target collection has."""
    there = {vector.name: vector for vector in existing.vectors}
    wrong: list[str] = []
    for needed in schemas:
        found = there.pop(needed.name, None)
        if found is None:
            names = ", ".join(f"'{vector.name}'" for vector in existing.vectors) or "none"
            wrong.append(f"it has no vector '{needed.name}' (it has {names})")
            continue
        for what in ("kind", "element", "dim", "metric"):
            expected, got = getattr(needed, what), getattr(found, what)
            # A database that attaches no metric to a vector reports none.
            if expected != got and not (what == "metric" and got is None):
                wrong.append(
                    f"vector '{needed.name}' has {what} {got or 'none'}, the source needs {expected or 'none'}"
                )
    wrong += [f"the source has no vector '{name}', which it needs" for name, v in there.items() if not v.optional]
    if wrong:
        raise SchemaMismatch(
            f"collection '{existing.name}' in the target does not fit the source: {'; '.join(wrong)}; "
            "name another collection, or rename vectors under mapping.rename as vector.NAME"
        )
