"""Vectors: their form on the wire, what a class accepts, and what a module makes of an object that comes without.

usecases/byteops and usecases/objects/validation/vector_validation.go of server 1.39.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectormigrate_dagster_tests.emulators.weaviate.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.weaviate.index_config import is_multi
from vectormigrate_dagster_tests.emulators.weaviate.schema import vector_configs, vectorizer

MAX_DIMENSIONS = 65535
EMBEDDED = 0.5
"""Every component of a vector that a module of this stand-in makes, so that tests recognise it."""

Given = Mapping[str, NDArray[np.float32]]
"""Vectors by name: one row, or several in two dimensions."""


def rows(content: bytes, *, multi: bool) -> NDArray[np.float32]:
    """Read a vector from the wire: of shape (dimensions,), or (rows, dimensions) behind two bytes with the latter.

    Raises:
        Refused: several vectors of no dimension.
    """
    if not multi:
        return np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4")
    if not content:
        return np.zeros((0, 0), np.float32)
    [dimensions] = struct.unpack_from("<H", content)
    if dimensions == 0:
        raise Refused("dimension cannot be 0")
    count = (len(content) - 2) // (4 * dimensions)
    return np.frombuffer(content, dtype="<f4", count=count * dimensions, offset=2).reshape(count, dimensions)


def wire(vector: NDArray[np.float32]) -> bytes:
    """Write a vector in the form of the wire."""
    head = struct.pack("<H", vector.shape[1]) if vector.ndim == 2 else b""
    return head + vector.astype("<f4").tobytes()


def accepted(definition: dict[str, Any], given: Given) -> dict[str, NDArray[np.float32]]:
    """The vectors of an object by the names that its class has.

    Raises:
        Refused: the class has no such vector, or it is of another form.
    """
    name, configs = definition["class"], vector_configs(definition)
    vectors = dict(given)
    legacy = "" in configs
    if legacy and "default" in vectors:  # the modern name of the vector that has none
        vectors[""] = vectors.pop("default")
    if not legacy and vectors.get("", np.zeros(0)).size:
        if len(configs) > 1:
            raise Refused(f"collection {name} configuration does not have single vector index")
        vectors = {next(iter(configs)): vectors[""]}
    vectors = {key: vector for key, vector in vectors.items() if key or vector.size}
    for key in vectors:
        if key not in configs:
            raise Refused(f"collection {name} does not have configuration for vector {key}")
    return {key: vector for key, vector in vectors.items() if _fits(definition, configs[key], key, vector)}


def _fits(definition: dict[str, Any], config: dict[str, Any], key: str, vector: NDArray[np.float32]) -> bool:
    """Whether there is a vector at all, which must be of the form that its index has."""
    what = f'vector "{key}" in collection "{definition["class"]}"'
    multi = is_multi(config)
    if len(vector) == 0:
        if multi and vectorizer(definition, key) == "none":
            raise Refused(f"{what}: multi-vector cannot be empty")
        return False
    if multi and vector.ndim == 1:
        raise Refused(
            f"insert to vector index: insert doc id 0 to vector index for target vector {key}: "
            "AddBatch called on multivector index"
        )
    if not multi and vector.ndim == 2:
        raise Refused(f"{what} is not configured as multi-vector, but a multi-vector was provided")
    if multi and vector.shape[1] == 0:
        raise Refused(f"{what}: multi-vector token 0 is empty")
    return True


def embedded(
    definition: dict[str, Any],
    vectors: dict[str, NDArray[np.float32]],
    dimensions: Mapping[str, int],
    *,
    embeds: bool,
) -> dict[str, NDArray[np.float32]]:
    """The vectors, and those that a module makes where the object has none of its own.

    Raises:
        Refused: a module would have to make one, and cannot.
    """
    result = dict(vectors)
    for name, config in vector_configs(definition).items():
        if name not in result and vectorizer(definition, name) != "none":
            if not embeds:
                raise Refused("API Key: no api key found neither in request header nor in environment variable")
            shape = (1, dimensions.get(name, 4)) if is_multi(config) else (dimensions.get(name, 4),)
            result[name] = np.full(shape, EMBEDDED, np.float32)
    return result


def check_dimensions(id: str, vectors: Mapping[str, NDArray[np.float32]], dimensions: dict[str, int]) -> None:
    """All vectors of a name have the dimensions of the first.

    Raises:
        Refused: there are too many, or others than those of the first.
    """
    for name, vector in vectors.items():
        size = vector.shape[-1]
        if size > MAX_DIMENSIONS:
            raise Refused(
                f"marshal object {id} to binary: could not marshal 'vector' max length exceeded "
                f"({size}/{MAX_DIMENSIONS})",
                Kind.INTERNAL,
            )
        expected = dimensions.get(name, size)
        if size == expected:
            continue
        if vector.ndim == 2:
            raise Refused(
                f"Validate vector index {name} for target multi vector {id}: new node has a multi vector with length "
                f"{size} at position 0. Existing nodes have vectors with length {expected}",
                Kind.INTERNAL,
            )
        where = f"Validate vector index {name} for target vector {id}" if name else f"Validate vector index for {id}"
        raise Refused(
            f"{where}: new node has a vector with length {size}. Existing nodes have vectors with length {expected}: "
            "vector dimensions do not match the index dimensions",
            Kind.INTERNAL,
        )
    for name, vector in vectors.items():
        dimensions.setdefault(name, vector.shape[-1])
