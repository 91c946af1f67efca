"""A collection's settings: filled with the server's defaults at creation, changed by differences later.

Defaults: config/config.yaml of server 1.19.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from qdrant_client import models

from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused, bad_input

_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0, "on_disk": False}
_OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10_000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}


def plain(settings: BaseModel | None) -> dict[str, Any]:
    """What is set, in the form of the REST API."""
    return {} if settings is None else settings.model_dump(mode="json", exclude_none=True)


class CollectionSettings:
    """What `get_collection` returns as `config`."""

    def __init__(self, request: models.CreateCollection) -> None:
        self.params = models.CollectionParams(
            vectors=request.vectors if request.vectors is not None else {},
            shard_number=1 if request.shard_number is None else request.shard_number,
            sharding_method=request.sharding_method,
            replication_factor=1 if request.replication_factor is None else request.replication_factor,
            write_consistency_factor=request.write_consistency_factor or 1,
            on_disk_payload=True if request.on_disk_payload is None else request.on_disk_payload,
            payload=request.payload,
            id_tracker=request.id_tracker,
            sparse_vectors=request.sparse_vectors or None,
        )
        for name, vector in self.vectors().items():
            if not 1 <= vector.size <= 65_536:
                where = f"vectors.{name}.size" if name else "vectors.size"
                raise Refused(
                    Kind.VALIDATION,
                    f"Validation error in JSON body: [{where}: value {vector.size} invalid, must be from 1 to 65536]",
                )
        both = self.vectors().keys() & (request.sparse_vectors or {}).keys()
        if both:
            raise bad_input(f"Sparse vector name `{min(both)}` is already used as a dense vector name")
        self.hnsw = models.HnswConfig(**{**_HNSW, **plain(request.hnsw_config)})
        self.optimizer = models.OptimizersConfig(**{**_OPTIMIZER, **plain(request.optimizers_config)})
        self.wal = models.WalConfig(**{**_WAL, **plain(request.wal_config)})
        self.quantization = request.quantization_config
        self.strict = request.strict_mode_config
        self.metadata = request.metadata

    def vectors(self) -> dict[str, models.VectorParams]:
        """Dense and multi vectors by name; an unnamed one is called ""."""
        vectors = self.params.vectors or {}
        return vectors if isinstance(vectors, dict) else {"": vectors}

    def update(self, change: models.UpdateCollection) -> None:
        """Take over what is set in a change; metadata are merged key by key, and a null removes one."""
        self.hnsw = models.HnswConfig(**{**plain(self.hnsw), **plain(change.hnsw_config)})
        self.optimizer = models.OptimizersConfig(**{**plain(self.optimizer), **plain(change.optimizers_config)})
        self.params = self.params.model_copy(update=dict(change.params or {}) and plain(change.params))
        if change.strict_mode_config is not None:
            self.strict = models.StrictModeConfig(**{**plain(self.strict), **plain(change.strict_mode_config)})
        if change.quantization_config is not None:
            disabled = isinstance(change.quantization_config, models.Disabled)
            self.quantization = None if disabled else change.quantization_config
        if change.metadata is not None:
            kept = {key: value for key, value in (self.metadata or {}).items() if key not in change.metadata}
            self.metadata = {**kept, **{key: value for key, value in change.metadata.items() if value is not None}}
        for name, difference in (change.vectors or {}).items():
            self._update_vector(name, difference)
        if change.sparse_vectors:
            self.params.sparse_vectors = {**(self.params.sparse_vectors or {}), **change.sparse_vectors}

    def _update_vector(self, name: str, difference: models.VectorParamsDiff) -> None:
        vector = self.vectors().get(name)
        if vector is None:
            raise bad_input(f"Not existing vector name error: {name}")
        for key in difference.model_fields_set:
            setattr(vector, key, getattr(difference, key))

    def config(self) -> models.CollectionConfig:
        """As the server returns it."""
        strict = None if self.strict is None else models.StrictModeConfigOutput(**plain(self.strict))
        return models.CollectionConfig(
            params=self.params,
            hnsw_config=self.hnsw,
            optimizer_config=self.optimizer,
            wal_config=self.wal,
            quantization_config=self.quantization,
            strict_mode_config=strict,
            metadata=self.metadata,
        )
