"""What the search tier found, as a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from vectormigrate_dagster.validation.figures import SearchGroup
from vectormigrate_dagster.validation.search.ranking import P

_BESIDE = {"better": "better than", "alike": "as good as", "worse": "worse than"}


def statement(
    groups: Sequence[SearchGroup],
    *,
    min_overlap: float,
    problems: Sequence[str],
    skipped: Sequence[str],
    both_empty: bool,
) -> str:
    """Say what every group of queries found; the lowest comes first.

    Args:
        groups: of queries that had something to find.
        min_overlap: what is demanded of each.
        problems: what else is not as planned.
        skipped: what was not searched, and why.
        both_empty: there is nothing to search.
    """
    if both_empty:
        return "both collections are empty"
    if not groups:
        return "; ".join(["no query could be judged, so nothing is proven", *skipped])
    ordered = sorted(groups, key=lambda group: group.target.overlap)
    parts = [_first(ordered[0], min_overlap, alone=len(groups) == 1)]
    parts += [f"{group.target.overlap:.4f} for {group.name}{_source(group)}" for group in ordered[1:]]
    parts += [_short(group) for group in ordered if group.short]
    return "; ".join([*parts, *problems, *skipped])


def _first(group: SearchGroup, min_overlap: float, *, alone: bool) -> str:
    side = group.target
    what = "" if alone and group.filter is None else f" for {group.name}"
    return (
        f"overlap@{group.k} with exact search{what} is {side.overlap:.4f} (95 % interval {side.low:.4f} to "
        f"{side.high:.4f}) over {group.queries:,} queries, {side.worst:.2f} for the worst; {min_overlap} is demanded; "
        f"rank-biased overlap (p = {P}) {side.rbo:.4f}{_source(group)}"
    )


def _short(group: SearchGroup) -> str:
    how = "" if group.filter is None else f" filtered by '{group.filter}'"
    return f"{group.short} queries{how} got too few answers"


def _source(group: SearchGroup) -> str:
    if group.source is None or group.compared is None:
        return ""
    return f", {_BESIDE[group.compared]} the source's own {group.source.overlap:.4f}"
