"""Classes: what a definition may say, and what the server adds to it.

usecases/schema/class.go, usecases/schema/parser.go and entities/schema/validation.go of server 1.39.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from vectormigrate_dagster_tests.emulators.weaviate import index_config
from vectormigrate_dagster_tests.emulators.weaviate.errors import Refused
from vectormigrate_dagster_tests.emulators.weaviate.gotext import JsonNumber, lower_first, upper_first
from vectormigrate_dagster_tests.emulators.weaviate.values import ARRAYS, NESTED, PRIMITIVE, is_reference

_CLASS = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")
_PROPERTY = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")
_NESTED = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")
_VECTOR = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,229}")
_TENANT = re.compile(r"[A-Za-z0-9\-_]{1,64}")
_RESERVED = ("_additional", "_id", "id")
_SUFFIXES = ("_searchable", "_rangeable", "_temp", "__meta_count", "_propertyLength", "_nullState")
_TOKENIZATIONS = ("word", "lowercase", "whitespace", "field", "trigram")


def class_name(name: str, what: str = "class") -> str:
    """The name of a class or an alias, its first letter in upper case.

    Raises:
        Refused: there can be no such name.
    """
    name = upper_first(name)
    if len(name) > 255:
        raise Refused(f"'{name}' is not a valid {what} name. Name should not be longer than 255 characters")
    if not _CLASS.fullmatch(name):
        raise Refused(f"'{name}' is not a valid {what} name")
    return name


def tenant_name(name: Any, position: int) -> str:
    """The name of a tenant.

    Raises:
        Refused: there can be no such name.
    """
    if isinstance(name, str) and _TENANT.fullmatch(name):
        return name
    why = "empty tenant name" if not name else (
        f" '{name}' is not a valid tenant name. should only contain alphanumeric characters (a-z, A-Z, 0-9), "
        "underscore (_), and hyphen (-), with a length between 1 and 64 characters"
    )  # fmt: skip
    raise Refused(f"tenant name at index {position}: {why}")


def complete(given: dict[str, Any], modules: tuple[str, ...], *, async_indexing: bool) -> dict[str, Any]:
    """The definition of a new class, with all that was not given.

    Args:
        given: by the client.
        modules: that are switched on.
        async_indexing: ASYNC_INDEXING, without which there is no dynamic index.

    Raises:
        Refused: a server would not create it.
    """
    result = plain(deepcopy(given))
    result["class"] = class_name(result.get("class") or "")
    properties, result["properties"] = result.get("properties") or [], []
    for each in properties:
        add_property(result, each)
    _complete_tenancy(result)
    _complete_vectors(result, modules)
    if not async_indexing and "dynamic" in _index_types(result):
        raise Refused("the dynamic index can only be created when async indexing is enabled")
    _complete_inverted_index(result)
    replication = result.get("replicationConfig") or {}
    result["replicationConfig"] = {
        "asyncEnabled": replication.get("asyncEnabled", False),
        "deletionStrategy": replication.get("deletionStrategy") or "TimeBasedResolution",
        "factor": replication.get("factor") or 1,
    }
    if result["replicationConfig"]["factor"] > 1:
        raise Refused(
            "init sharding state: could not find enough weaviate nodes for replication: 1 available, "
            f"{result['replicationConfig']['factor']} requested"
        )
    return {key: value for key, value in result.items() if value is not None and (value != "" or key == "class")}


def plain(value: Any) -> Any:
    """A JSON document with numbers in place of their digits."""
    match value:
        case JsonNumber():
            return int(value) if re.fullmatch(r"-?\d+", value) else float(value)
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
        case _:
            return value


def _complete_tenancy(result: dict[str, Any]) -> None:
    tenancy = result.get("multiTenancyConfig") or {}
    flags = ("enabled", "autoTenantCreation", "autoTenantActivation")
    result["multiTenancyConfig"] = {name: bool(tenancy.get(name)) for name in flags}
    if not tenancy.get("enabled") and (tenancy.get("autoTenantCreation") or tenancy.get("autoTenantActivation")):
        flag = "autoTenantCreation" if tenancy.get("autoTenantCreation") else "autoTenantActivation"
        raise Refused(f"can't enable {flag} on a non-multi-tenant class")
    if tenancy.get("enabled"):
        if result.get("shardingConfig"):
            raise Refused("cannot have both shardingConfig and multiTenancyConfig")
        empty = {"strategy": "", "key": "", "function": ""}
        result["shardingConfig"] = {**dict.fromkeys(_COUNTS, 0), **empty}
        return
    count = (result.get("shardingConfig") or {}).get("desiredCount") or 1
    result["shardingConfig"] = {
        "virtualPerPhysical": 128,
        "desiredCount": count,
        "actualCount": count,
        "desiredVirtualCount": 128 * count,
        "actualVirtualCount": 128 * count,
        "key": "_id",
        "strategy": "hash",
        "function": "murmur3",
    }


_COUNTS = ("virtualPerPhysical", "desiredCount", "actualCount", "desiredVirtualCount", "actualVirtualCount")


def _complete_vectors(result: dict[str, Any], modules: tuple[str, ...]) -> None:
    named = result.get("vectorConfig")
    legacy = any(result.get(key) for key in ("vectorizer", "vectorIndexType", "vectorIndexConfig"))
    if named:
        if legacy:
            raise Refused("creating a class with both a class level vector index and named vectors is forbidden")
        result["vectorConfig"] = {name: _named(name, config, modules) for name, config in named.items()}
        for config in result["vectorConfig"].values():
            for module in config["vectorizer"]:
                _complete_properties(result, module)
        return
    result.pop("vectorConfig", None)
    result["vectorizer"] = result.get("vectorizer") or "none"
    _has_module(result["vectorizer"], modules)
    _complete_module(result)
    result["vectorIndexType"] = result.get("vectorIndexType") or "hnsw"
    result["vectorIndexConfig"] = index_config.complete(result["vectorIndexType"], result.get("vectorIndexConfig"))
    if index_config.is_multi(result["vectorIndexConfig"]):
        raise Refused(
            "parse vector index config: class.VectorIndexConfig multi vector type index type is only configurable "
            "using named vectors"
        )


def _complete_module(result: dict[str, Any]) -> None:
    """What modules add to a class and its properties."""
    module = result["vectorizer"]
    if module == "none":
        return
    given = result.get("moduleConfig") or {}
    result["moduleConfig"] = {**given, module: {**_module_settings(module), **(given.get(module) or {})}}
    _complete_properties(result, module)


def _complete_properties(result: dict[str, Any], module: str) -> None:
    if not module.startswith("text2vec-"):
        return
    for each in result["properties"]:
        held = each.get("moduleConfig") or {}
        own = {"skip": False, "vectorizePropertyName": False, **(held.get(module) or {})}
        each["moduleConfig"] = {**held, module: own}


_ADDED = {
    "text2vec-openai": {"baseURL": "https://api.openai.com", "model": "text-embedding-3-small"},
    "text2vec-cohere": {"baseUrl": "https://api.cohere.ai", "model": "embed-multilingual-v3.0", "truncate": "END"},
}


def _module_settings(module: str) -> dict[str, Any]:
    """What a module says of itself where it was given no settings."""
    named = {"vectorizeClassName": True} if module.startswith("text2vec-") else {}
    return {**_ADDED.get(module, {}), **named}


def _index_types(definition: dict[str, Any]) -> set[str]:
    named = definition.get("vectorConfig", {}).values()
    return {config["vectorIndexType"] for config in (*named, definition) if "vectorIndexType" in config}


def _named(name: str, config: dict[str, Any], modules: tuple[str, ...]) -> dict[str, Any]:
    if not _VECTOR.fullmatch(name):
        raise Refused(
            f"'{name}' is not a valid target vector name. Target vector names in Weaviate are restricted to valid "
            "GraphQL names, which must be “/[_A-Za-z][_0-9A-Za-z]{0,229}/”"
        )
    vectorizer = config.get("vectorizer")
    if not isinstance(vectorizer, dict) or len(vectorizer) != 1:
        raise Refused(f'target vector "{name}": vectorizer must consist only 1 configuration')
    [module] = vectorizer
    _has_module(module, modules)
    kind = config.get("vectorIndexType") or "hnsw"
    return {
        "vectorizer": {module: {**_module_settings(module), **(vectorizer[module] or {})}},
        "vectorIndexType": kind,
        "vectorIndexConfig": index_config.complete(kind, config.get("vectorIndexConfig")),
    }


def _has_module(module: str, modules: tuple[str, ...]) -> None:
    if module != "none" and module not in modules:
        raise Refused(f'vectorizer: no module with name "{module}" present')


def _complete_inverted_index(result: dict[str, Any]) -> None:
    given = result.get("invertedIndexConfig") or {}
    stopwords = given.get("stopwords") or {}
    result["invertedIndexConfig"] = {
        **{name: True for name in ("indexNullState", "indexPropertyLength", "indexTimestamps") if given.get(name)},
        "bm25": {"b": 0.75, "k1": 1.2, **(given.get("bm25") or {})},
        "cleanupIntervalSeconds": given.get("cleanupIntervalSeconds") or 60,
        "stopwords": {
            "preset": stopwords.get("preset") or "en",
            "additions": stopwords.get("additions"),
            "removals": stopwords.get("removals"),
        },
        "usingBlockMaxWAND": True,
    }


def add_property(result: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Add a property to a class, with all that was not given.

    Raises:
        Refused: a server would not add it.
    """
    each = plain(deepcopy(given))
    each["name"] = lower_first(each.get("name") or "")
    _check_property_name(result, each["name"])
    kinds = each.get("dataType") or []
    if not kinds:
        raise Refused(f"property '{each['name']}': invalid dataType: []: dataType must have at least one element")
    if not is_reference(kinds):
        _check_type(each, kinds)
    _complete_indexing(each)
    result["properties"].append(each)
    return each


def _check_property_name(result: dict[str, Any], name: str) -> None:
    if len(name) > 231:
        raise Refused(f"'{name}' is not a valid property name. Name should not be longer than 231 characters")
    if not _PROPERTY.fullmatch(name):
        raise Refused(
            f"'{name}' is not a valid property name. Property names in Weaviate are restricted to valid GraphQL names, "
            "which must be “/[_A-Za-z][_0-9A-Za-z]{0,230}/”"
        )
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            raise Refused(f"'{name}' is not a valid property name: suffix '{suffix}' is reserved for internal indices")
    if name in _RESERVED:
        raise Refused(f"'{name}' is a reserved property name")
    if name.lower() in {one["name"].lower() for one in result["properties"]}:
        raise Refused(
            f'class "{result["class"]}": conflict for property "{name}": already in use or provided multiple times'
        )


def _check_type(each: dict[str, Any], kinds: list[str]) -> None:
    kind, name = kinds[0], each["name"]
    if len(kinds) > 1 or kind not in (*PRIMITIVE, *ARRAYS, *NESTED):
        why = f"unknown primitive data type '{kind}'" if len(kinds) == 1 else "could not find class in schema"
        raise Refused(f"property '{name}': invalid dataType: [{' '.join(kinds)}]: {why}")
    if kind in NESTED:
        _check_nested(each.get("nestedProperties") or [], name)
    elif each.get("nestedProperties"):
        raise Refused(f"property '{name}': nestedProperties not allowed for data types other than object/object[]")
    tokenization = each.get("tokenization") or ""
    if kind in ("text", "text[]"):
        if tokenization and tokenization not in _TOKENIZATIONS:
            raise Refused(f"tokenization '{tokenization}' is not allowed for data type '{kind}'")
    elif tokenization:
        raise Refused(f"tokenization is not allowed for data type '{kind}'")
    elif each.get("indexSearchable"):
        raise Refused(
            "`indexSearchable` is allowed only for text/text[] data types. "
            "For other data types set false or leave empty"
        )


def _check_nested(nested: list[dict[str, Any]], path: str) -> None:
    if not nested:
        raise Refused(f"property '{path}': At least one nested property is required for data type object/object[]")
    for each in nested:
        name, kind = each["name"], each["dataType"][0]
        if not _NESTED.fullmatch(name):
            raise Refused(
                f"'{name}' is not a valid nested property name of '{path}'. NestedProperty names in Weaviate are "
                "restricted to valid GraphQL names, which must be “/[_A-Za-z][_0-9A-Za-z]*/”"
            )
        if kind in ("geoCoordinates", "phoneNumber"):
            raise Refused(f"property '{path}.{name}': data type '{kind}' not allowed as nested property")
        if kind in NESTED:
            _check_nested(each.get("nestedProperties") or [], f"{path}.{name}")
        elif kind not in (*PRIMITIVE, *ARRAYS):
            raise Refused(f"property '{path}.{name}': reference data type not allowed")


def _complete_indexing(each: dict[str, Any]) -> None:
    text = each["dataType"][0] in ("text", "text[]")
    if text:
        each["tokenization"] = each.get("tokenization") or "word"
    else:
        each.pop("tokenization", None)
    for name, default in (("indexFilterable", True), ("indexSearchable", text), ("indexRangeFilters", False)):
        if each.get(name) is None:
            each[name] = default
    for inner in each.get("nestedProperties") or []:
        _complete_indexing(inner)


_CHANGEABLE = ("description", "invertedIndexConfig", "replicationConfig", "multiTenancyConfig", "moduleConfig")


def changed(old: dict[str, Any], given: dict[str, Any], modules: tuple[str, ...]) -> dict[str, Any]:
    """The definition of a class after an update.

    Raises:
        Refused: it changes what cannot be changed.
    """
    asked = plain(deepcopy(given))
    if asked.get("multiTenancyConfig", {}).get("enabled"):
        asked.pop("shardingConfig", None)
    new = complete(asked, modules, async_indexing=True)  # it was asked for when the class was made
    if new["class"] != old["class"]:
        raise Refused(f'class name is immutable: attempted change from "{old["class"]}" to "{new["class"]}"')
    for key, what in (("vectorizer", "vectorizer"), ("vectorIndexType", "vector index type")):
        if new.get(key) != old.get(key):
            raise Refused(f'{what} is immutable: attempted change from "{old.get(key, "")}" to "{new.get(key, "")}"')
    if new["multiTenancyConfig"]["enabled"] != old["multiTenancyConfig"]["enabled"]:
        verb = "enabling" if new["multiTenancyConfig"]["enabled"] else "disabling"
        raise Refused(f"{verb} multi-tenancy for an existing class is not supported")
    if _without_description(new["properties"]) != _without_description(old["properties"]):
        raise Refused(
            "property fields other than description cannot be updated through updating the class. Use the add "
            'property feature (e.g. "POST /v1/schema/{className}/properties") to add additional properties'
        )
    _check_indexes(old, new)
    new["properties"].sort(key=lambda each: each["name"])  # as a server does when it compares them
    return {**old, **{key: new.get(key) for key in _CHANGEABLE if new.get(key) is not None}, **{
        key: new[key] for key in ("properties", "vectorIndexConfig", "vectorConfig") if key in new
    }}  # fmt: skip


def _check_indexes(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = vector_configs(old), vector_configs(new)
    for name, config in before.items():
        if name not in after:
            raise Refused(f'missing config for vector "{name}"')
        for field in ("distance", "maxConnections", "efConstruction", "multivector"):
            was, now = config.get(field), after[name].get(field)
            if was != now:
                raise Refused(
                    f'validate vector index config: {field} is immutable: attempted change from "{was}" to "{now}"'
                )


def _without_description(properties: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bare = [{key: value for key, value in each.items() if key != "description"} for each in properties]
    return sorted(bare, key=lambda each: each["name"])


def vector_configs(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each vector index by name; "" names the one without a name."""
    if "vectorConfig" in definition:
        return {name: each["vectorIndexConfig"] for name, each in definition["vectorConfig"].items()}
    return {"": definition["vectorIndexConfig"]}


def vectorizer(definition: dict[str, Any], name: str) -> str:
    """The module that makes vectors of a name for objects that come without; "none" if there is none."""
    if name:
        return next(iter(definition["vectorConfig"][name]["vectorizer"]))
    return definition["vectorizer"]
