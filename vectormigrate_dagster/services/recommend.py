"""`recommend`: what a migration between two databases means for a schema, offline."""

from __future__ import annotations

from collections.abc import Mapping

from vectormigrate_dagster.mapping.recommend import SchemaRecommendation, recommend_schema


def recommend(*, source_type: str, target_type: str, fields: Mapping[str, str] | None = None) -> SchemaRecommendation:
    """Recommend a mapping; connects to nothing.

    Raises:
        ConfigurationError: a type that is not one of the four databases.
    """
    return recommend_schema(source_type, target_type, fields)
