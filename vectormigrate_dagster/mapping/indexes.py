"""What becomes of indexes, quantization and storage hints: speed and memory, never the data itself."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.model import Capabilities, CollectionSchema, IndexSpec, VectorSchema


def map_vector_extras(
    vector: VectorSchema, source: Capabilities, target: Capabilities
) -> tuple[dict[str, Any], list[LossRow]]:
    """Index, quantization, `on_disk` and modifier of a vector to create, and a row for each that is set.

    Settings are kept between two collections of one database; an HNSW graph's are translated.
    """
    same = source.type == target.type
    extras: dict[str, Any] = {}
    rows: list[LossRow] = []
    if vector.index is not None:
        extras["index"] = vector.index if same else _hnsw(vector.index, source, target)
        rows.append(
            _setting("index", vector, vector.index, extras["index"], "searches are as exact or faster elsewhere")
        )
    if vector.quantization is not None:
        kept = vector.quantization if same and vector.quantization.type in target.quantization else None
        extras["quantization"] = kept
        rows.append(_setting("quantization", vector, vector.quantization, kept, "full vectors are moved"))
    if vector.on_disk is not None:
        extras["on_disk"] = vector.on_disk if same else None
        rows.append(_setting("on_disk", vector, vector.on_disk, extras["on_disk"], "memory, not data"))
    if vector.modifier is not None:
        extras["modifier"] = vector.modifier if same else None
        rows.append(_modifier(vector, extras["modifier"]))
    return extras, rows


def _hnsw(index: IndexSpec, source: Capabilities, target: Capabilities) -> IndexSpec | None:
    """An HNSW graph in the target's words; None where one of the two has none."""
    if index.type != source.hnsw_words.get("type") or not target.hnsw_words:
        return None
    params = {
        target.hnsw_words[word]: index.params[source.hnsw_words[word]]
        for word in ("m", "ef_construct")
        if word in target.hnsw_words and source.hnsw_words.get(word) in index.params
    }
    # A graph of degree 0 is Qdrant's way to switch the index off for a bulk load.
    degree = index.params.get(source.hnsw_words["m"])
    return IndexSpec(type=target.hnsw_words["type"], params=params) if degree is None or degree > 1 else None


def _setting(what: str, vector: VectorSchema, before: object, after: object, why: str) -> LossRow:
    grade = Grade.EXACT if before == after else Grade.WIDENED
    reason = "kept" if before == after else f"the target's own setting is used; {why}"
    if after is not None and before != after:
        reason = "the same graph in the target's words"
    return LossRow(
        code=f"vector.{vector.name}.{what}",
        subject=f"{what} of '{vector.name}'",
        source=_text(before),
        target=_text(after),
        grade=grade,
        reason=reason,
    )


def _modifier(vector: VectorSchema, after: str | None) -> LossRow:
    kept = after == vector.modifier
    return LossRow(
        code=f"vector.{vector.name}.modifier",
        subject=f"modifier of '{vector.name}'",
        source=str(vector.modifier),
        target=after or "none",
        grade=Grade.EXACT if kept else Grade.LOSSY,
        reason="kept" if kept else f"the target does not multiply '{vector.modifier}' in; scores change",
    )


def _text(value: object) -> str:
    if value is None:
        return "default"
    if isinstance(value, IndexSpec):
        params = ", ".join(f"{key}={setting}" for key, setting in sorted(value.params.items()))
        return f"{value.type}({params})" if params else value.type
    return str(value)


def collection_rows(source: CollectionSchema, *, same: bool, existed: bool) -> list[LossRow]:
    """Rows for shards, replicas and aliases of the source."""
    rows: list[LossRow] = []
    for what, count in (("shards", source.shards), ("replicas", source.replicas)):
        if count is not None:
            kept = same and not existed
            reason = "the same number" if kept else "the target's own setting is used; it holds no data"
            grade = Grade.EXACT if kept else Grade.WIDENED
            target = str(count) if kept else "default"
            rows.append(LossRow(code=what, subject=what, source=str(count), target=target, grade=grade, reason=reason))
    for alias in source.aliases:
        reason = "an alias moves with the application, at the end, not with the records"
        row = LossRow(
            code=f"alias.{alias}",
            subject=f"alias '{alias}'",
            source=f"names '{source.name}'",
            target="not moved",
            grade=Grade.WIDENED,
            reason=reason,
        )
        rows.append(row)
    return rows


def kept_settings(source: CollectionSchema, before: Capabilities, target: Capabilities) -> dict[str, Any]:
    """Settings of a collection to create: those of the source that the target knows by the same name."""
    if before.type != target.type:
        return {}
    return {name: value for name, value in source.settings.items() if name in target.collection_settings}


def setting_rows(
    source: CollectionSchema, before: Capabilities, target: CollectionSchema, *, existed: bool
) -> list[LossRow]:
    """Rows for the settings of the source that a collection can be created with."""
    rows = []
    for name in before.collection_settings:
        value = source.settings.get(name)
        if value in (None, {}):
            continue
        kept = not existed and target.settings.get(name) == value
        row = LossRow(
            code=f"setting.{name}",
            subject=f"setting '{name}'",
            source=_brief(value),
            target="the same" if kept else "default",
            grade=Grade.EXACT if kept else Grade.WIDENED,
            reason="kept" if kept else "the target's own setting is used; no record depends on it",
        )
        rows.append(row)
    return rows


def _brief(value: object) -> str:
    """A setting in one line for a table."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key}={setting}" for key, setting in sorted(value.items()))
