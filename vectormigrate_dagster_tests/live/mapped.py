"""The mapping of a plan between two collections in memory that are alike."""

from __future__ import annotations

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile import Profiler
from vectormigrate_dagster.mapping.schema import Mapping, map_schema
from vectormigrate_dagster.model import Batch, CollectionSchema
from vectormigrate_dagster_tests.memory import CAPABILITIES


def mapping_between(schema: CollectionSchema, records: Batch) -> Mapping:
    """What a plan says of a collection that is moved to one of the same kind.

    Args:
        schema: of the source.
        records: of the source, for their fields.
    """
    wishes = MappingConfig()
    profiler = Profiler(Before.of(schema, wishes))
    profiler.add(records)
    profile = profiler.profile(complete=False)
    return map_schema(schema, CAPABILITIES, CAPABILITIES, wishes, profile, collection="target")[0]
