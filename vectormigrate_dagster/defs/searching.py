"""What the search tier of a migration asks: every vector that both databases can be searched by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.vectors import VectorMapping
from vectormigrate_dagster.model import Capabilities, Metric, VectorKind, VectorSchema
from vectormigrate_dagster.validation import GivenQueries, Searched, SearchSettings
from vectormigrate_dagster.validation.search.query_file import read_queries

_OF_SEVERAL = (Metric.COSINE, Metric.DOT)


def given_queries(migration: Migration) -> GivenQueries | None:
    """The queries of the file that the migration file names; None if it names none.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    path = migration.validation.search.queries_file
    return None if path is None else read_queries(path)


def search_settings(
    plan: Plan,
    migration: Migration,
    sides: tuple[Capabilities, Capabilities],
    queries: GivenQueries | None,
    *,
    seed: int = 0,
) -> SearchSettings | None:
    """What is searched; None if nothing is to be, or can be by both databases.

    Args:
        sides: what the source and the target can do.
        queries: the user's; None samples records.
    """
    settings = migration.validation.search
    if settings.queries == 0 and queries is None:
        return None
    searched = list(_searched(plan, sides))
    chosen = tuple(one for one in searched if isinstance(one, Searched))
    if not chosen:
        return None
    return SearchSettings(
        vectors=chosen,
        k=settings.k,
        queries=settings.queries,
        given=queries,
        filter=settings.filter,
        source_fields=_source_fields(plan),
        min_overlap=settings.min_overlap,
        skipped=tuple(one for one in searched if isinstance(one, str)),
        seed=seed,
    )


def unsearched(plan: Plan, sides: tuple[Capabilities, Capabilities]) -> list[str]:
    """The vectors that are not searched, each with the reason."""
    return [one for one in _searched(plan, sides) if isinstance(one, str)]


def _searched(plan: Plan, sides: tuple[Capabilities, Capabilities]) -> Iterator[Searched | str]:
    """Each vector of the plan, or why it is not searched."""
    for vector in plan.mapping.vectors:
        made = None if vector.unseen else plan.mapping.target_schema.vector(vector.target)
        reason = _obstacle(vector, made, sides)
        if made is None or made.metric is None or reason is not None:
            yield f"vector '{vector.target}' was not searched because {reason}"
        else:
            yield Searched(vector=vector.target, source_vector=vector.source, metric=made.metric)


def _obstacle(vector: VectorMapping, made: VectorSchema | None, sides: Sequence[Capabilities]) -> str | None:
    """Why both databases cannot be searched by a vector; None if they can."""
    if made is None or made.metric is None:
        return "the target compares it by no metric"
    metric = made.metric
    for side in sides:
        if vector.kind not in side.searches:
            return f"we cannot search {side.title} by {vector.kind.value} vectors"
    if vector.kind is VectorKind.SPARSE and (metric is not Metric.DOT or made.modifier is not None):
        return "the database makes weights of its own for it"
    if vector.kind is VectorKind.MULTI:
        if metric not in _OF_SEVERAL:
            return f"databases add up {metric.value} distances in different ways"
        if metric is Metric.COSINE and any(side.multi_cosine_as_stored for side in sides):
            return "one database normalises vectors of several before it compares them and the other does not"
    return None


def _source_fields(plan: Plan) -> dict[str, str]:
    """What fields of the target are called in the source, where that differs."""
    return {field.target: field.source for field in plan.mapping.fields if field.target != field.source}
