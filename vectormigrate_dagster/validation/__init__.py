"""Prove that a target holds what the plan promised."""

from vectormigrate_dagster.validation.context import Context, Exceptions
from vectormigrate_dagster.validation.report import Finding, TierResult, ValidationReport, upper_bound
from vectormigrate_dagster.validation.search import GivenQueries, Searched, SearchSettings
from vectormigrate_dagster.validation.validate import validate_full, validate_sample, validate_split

__all__ = [
    "Context",
    "Exceptions",
    "Finding",
    "GivenQueries",
    "SearchSettings",
    "Searched",
    "TierResult",
    "ValidationReport",
    "upper_bound",
    "validate_full",
    "validate_sample",
    "validate_split",
]
