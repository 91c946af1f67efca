"""The raw numbers of a validation's plots: small enough to be stored, and all that a page needs to draw them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Figure(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Histogram(_Figure):
    """How many compared vectors fell into each class.

    Args:
        what: the vector's name.
        labels: the classes, best first.
        counts: compared vectors in each.
    """

    what: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


class Projection(_Figure):
    """Vectors of a sample of records on the plane of their two main directions.

    Args:
        vector: the vector's name.
        points: per record x and y of what was promised, then x and y of what the target holds.
        explained: share of the variance that the plane shows.
    """

    vector: str
    points: tuple[tuple[float, float, float, float], ...]
    explained: float


class Side(_Figure):
    """How well one database answers the queries of a group.

    Args:
        overlap: mean share of the true nearest neighbours among the k answers.
        low, high: bootstrap interval of that mean, 95 %.
        worst: the smallest share of a query.
        rbo: mean rank-biased overlap, see `ranking`.
        scores_agree: share of answers whose score is the true one within 1 %; None where no answer has a true score.
        curve: mean overlap at each depth from 1 to k.
    """

    overlap: float
    low: float
    high: float
    worst: float
    rbo: float
    scores_agree: float | None
    curve: tuple[float, ...]


class SearchGroup(_Figure):
    """Queries by one vector, all of them filtered or none.

    Args:
        vector: its name in the target.
        metric: how the plan says that it is compared.
        filter: the fields that are filtered by at once, separated by commas; None if none are.
        scopes: how many scopes were asked.
        short: queries with fewer answers of the target than there are to find.
        compared: what the target's overlap is beside the source's: "better", "alike" or "worse", by the bootstrap
            interval of the difference; None where the source was not asked.
    """

    vector: str
    metric: str
    filter: str | None
    queries: int
    scopes: int
    k: int
    short: int
    target: Side
    source: Side | None = None
    compared: str | None = None

    @property
    def name(self) -> str:
        """What was asked, for people."""
        return group_name(self.vector, self.filter)


def group_name(vector: str, filter: str | None) -> str:
    """What a group of queries asks, for people."""
    return f"vector '{vector}'" + (f" filtered by '{filter}'" if filter is not None else "")


class Answer(_Figure):
    """One answer, or one true neighbour.

    Args:
        score: as the metric is read (a distance is not negated); None if it is not known.
        right: it is as near as one of the k nearest.
    """

    id: str
    score: float | None
    right: bool


class WorstQuery(_Figure):
    """A query that the target answers badly, and what everybody says.

    Args:
        query: the id of the record that it was taken from, or its name or line in a file.
        where: the filter, such as "year = 1999".
        source: empty where the source was not asked.
    """

    query: str
    vector: str
    scope: str | None
    where: str | None
    overlap: float
    truth: tuple[Answer, ...]
    source: tuple[Answer, ...]
    target: tuple[Answer, ...]
