"""Settings of vector indexes: defaults, merged with what was given (entities/vectorindex of server 1.39)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.gotext import JsonNumber

DISTANCES = ("cosine", "dot", "l2-squared", "manhattan", "hamming")
CACHE = 1_000_000_000_000

_HNSW: dict[str, Any] = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": CACHE,
    "flatSearchCutoff": 40000,
    "distance": "cosine",
    "pq": {
        "enabled": False,
        "bitCompression": False,
        "segments": 0,
        "centroids": 256,
        "trainingLimit": 100000,
        "encoder": {"type": "kmeans", "distribution": "log-normal"},
    },
    "bq": {"enabled": False},
    "sq": {"enabled": False, "trainingLimit": 100000, "rescoreLimit": 20},
    "rq": {"enabled": False, "bits": 8, "rescoreLimit": 20},
    "filterStrategy": "acorn",
    "multivector": {
        "enabled": False,
        "muvera": {"enabled": False, "ksim": 4, "dprojections": 16, "repetitions": 10},
        "aggregation": "maxSim",
    },
    "skipDefaultQuantization": False,
    "trackDefaultQuantization": False,
}
_QUANTIZER = {"enabled": False, "rescoreLimit": -1, "cache": False}
_FLAT: dict[str, Any] = {
    "distance": "cosine",
    "vectorCacheMaxObjects": CACHE,
    "pq": _QUANTIZER,
    "bq": _QUANTIZER,
    "sq": _QUANTIZER,
    "rq": {**_QUANTIZER, "bits": 8},
    "skipDefaultQuantization": False,
    "trackDefaultQuantization": False,
}
_DYNAMIC: dict[str, Any] = {"distance": "cosine", "threshold": 10000, "hnsw": _HNSW, "flat": _FLAT}
_HFRESH: dict[str, Any] = {
    "maxPostingSizeKB": 48,
    "replicas": 4,
    "searchProbe": 256,
    "distance": "cosine",
    "rq": {"enabled": True, "bits": 1, "rescoreLimit": 350},
}
_DEFAULTS = {"hnsw": _HNSW, "flat": _FLAT, "dynamic": _DYNAMIC, "hfresh": _HFRESH}


def complete(kind: str, given: Any) -> dict[str, Any]:
    """The settings of an index, with all that was not given.

    Raises:
        Refused: there is no such kind of index, or a setting is not possible.
    """
    if kind not in _DEFAULTS:
        raise Refused(f'unrecognized or unsupported vectorIndexType "{kind}"')
    if given is not None and not isinstance(given, dict):
        raise Refused("parse vector index config: parse vector index config: input must be a non-nil map")
    config = _merged(_DEFAULTS[kind], given or {})
    if kind == "dynamic":
        for inner in ("hnsw", "flat"):
            config[inner]["distance"] = config["distance"]
    _check(kind, config)
    return config


def _merged(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What was given, over the defaults; names that the server does not know are left out."""
    result = deepcopy(defaults)
    for key, value in given.items():
        if key not in result or value is None:
            continue
        if isinstance(result[key], dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = int(float(value)) if isinstance(value, JsonNumber) else value
    return result


def _check(kind: str, config: dict[str, Any]) -> None:
    if config["distance"] not in DISTANCES:
        raise Refused(f'unrecognized distance metric "{config["distance"]}", choose one of {list(DISTANCES)}')
    enabled = [name for name in ("pq", "bq", "sq", "rq") if config.get(name, {}).get("enabled")]
    if len(enabled) > 1:
        raise Refused(
            f"parse vector index config: invalid {kind} config: more than a single compression methods enabled"
        )
    if kind == "hnsw":
        if not 4 <= config["maxConnections"] <= 2047:
            raise Refused("parse vector index config: invalid hnsw config: maxConnections must be between 4 and 2047")
        if config["efConstruction"] < 4:
            raise Refused("parse vector index config: invalid hnsw config: efConstruction must be at least 4")


def is_multi(config: dict[str, Any]) -> bool:
    """Whether an index holds several vectors for an object."""
    return bool(config.get("multivector", {}).get("enabled"))
