"""Tier 4: the target's index finds what is nearest, by the metric that the plan promised.

The truth is ours: every promised vector is scored against every query while the source is scanned, a batch at a
time. Databases are asked first, so that one scan gives both the best scores and the true scores of their answers;
an answer counts when its true score is at least the k-th best one, so ties may be broken in any way.
Records of somebody else may stand in the target too; those among the answers are fetched and scored like ours.
"""

from vectormigrate_dagster.validation.search.check import SearchCheck
from vectormigrate_dagster.validation.search.settings import GivenQueries, Searched, SearchSettings

__all__ = ["GivenQueries", "SearchCheck", "SearchSettings", "Searched"]
