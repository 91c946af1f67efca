"""What vectors are called in the target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.model import Capabilities, VectorKind, VectorSchema

_NAMED_AFTER_ALL = "default"
"""The name of an unnamed vector where there are others beside it; Weaviate's client calls its only one so."""


class VectorNames:
    """Names vectors one after the other: asked for, or as before an earlier migration, or as near as the target allows.

    Args:
        marker: names that an earlier migration gave: name in the source -> name before.
        moved: the vectors that are not dropped.
    """

    def __init__(
        self,
        source: Capabilities,
        target: Capabilities,
        options: MappingConfig,
        marker: Mapping[str, Any],
        moved: Sequence[VectorSchema],
    ) -> None:
        self._source = source
        self._target = target
        self._asked = options.rename
        self._marker = marker
        self._others = sum(vector.kind is not VectorKind.SPARSE for vector in moved) - 1
        self._taken: set[str] = set()

    def name(self, vector: VectorSchema) -> str:
        """The vector's name in the target."""
        name = self._asked.get(f"vector.{vector.name}")
        if name is None:
            name = self._possible(self._wanted(vector))
            while name in self._taken:
                name += "_"
        self._taken.add(name)
        return name

    def before(self, vector: VectorSchema) -> str:
        """The vector's name before an earlier migration; "" for an unnamed one."""
        if vector.name in self._marker:
            return str(self._marker[vector.name])
        source = self._source
        given = source.default_sparse_name if vector.kind is VectorKind.SPARSE else source.default_vector_name
        return "" if source.vector_name_is_given and vector.name == given else vector.name

    def _wanted(self, vector: VectorSchema) -> str:
        target, before = self._target, self.before(vector)
        if self._source.type == target.type and vector.name not in self._marker:
            return self._beside_others(vector.name)
        sparse = vector.kind is VectorKind.SPARSE
        given = target.default_sparse_name if sparse else target.default_vector_name
        if target.vector_name_is_given and given is not None:
            return given  # an index of one dense and one sparse vector, which have no names of their own
        if sparse:
            return before or vector.name
        name = self._beside_others(before or target.default_vector_name)
        return name if name or vector.kind is VectorKind.DENSE else _NAMED_AFTER_ALL

    def _beside_others(self, name: str) -> str:
        """The name, or another for an unnamed vector that is not the only one."""
        return _NAMED_AFTER_ALL if not name and self._others else name

    def _possible(self, name: str) -> str:
        """The name with what the target does not accept replaced."""
        target = self._target
        pattern = target.vector_name_pattern or (target.field_name_pattern if target.declared_fields else None)
        if pattern is None or name == target.default_vector_name or re.fullmatch(pattern, name):
            return name
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        return next((one for one in (name, f"_{name}") if re.fullmatch(pattern, one)), f"v{name}"[:64])
