"""The plots of a validation as metadata of a check, for the Dagster UI.

The UI renders Markdown with images whose address holds the picture itself; SVG is the smallest form of these.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import dagster as dg

from vectormigrate_dagster.validation import TierResult, plots
from vectormigrate_dagster.validation.figures import WorstQuery

MAX_BYTES = 200_000
"""Of one plot: metadata is stored with its event, and loaded whenever the event is shown."""

_CURVE = "Mean overlap with exact search by depth: the target (line), the source (dashed), what is demanded (dotted)."
_HISTOGRAM = "1 - cosine between the promised vector and the one that the target holds, of sampled records."
_PROJECTION = "A sample of records on the plane of their two main directions: the source as rings, the target as dots."


def plot_metadata(result: TierResult) -> dict[str, dg.MetadataValue]:
    """The plots of one tier by their names; empty for a tier without any."""
    found: dict[str, dg.MetadataValue] = {}
    for name, svg, caption in _plots(result):
        if len(svg) <= MAX_BYTES:
            found[name] = dg.MetadataValue.md(f"{_image(name, svg)}\n\n{caption}")
    if result.worst_queries:
        found["worst_queries"] = _worst(result.worst_queries)
    return found


def _image(title: str, svg: str) -> str:
    """An SVG text as an image in Markdown."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _plots(result: TierResult) -> Iterator[tuple[str, str, str]]:
    """Name, SVG and caption; no caption holds a text that comes from a database."""
    for place, group in enumerate(result.groups, 1):
        demanded = result.measures.get("min_overlap")
        yield f"overlap_{place}", plots.overlap_curve(group, min_overlap=demanded), _CURVE
    for place, histogram in enumerate(result.histograms, 1):
        yield f"similarity_{place}", plots.histogram(histogram), _HISTOGRAM
    if result.projection is not None:
        yield "projection", plots.projection(result.projection), _PROJECTION


def _worst(queries: tuple[WorstQuery, ...]) -> dg.TableMetadataValue:
    columns = ["query", "vector", "where", "overlap", "truth", "source", "target"]
    records = [
        dg.TableRecord(
            {
                "query": one.query,
                "vector": one.vector,
                "where": one.where or "",
                "overlap": f"{one.overlap:.2f}",
                "truth": " ".join(answer.id for answer in one.truth),
                "source": " ".join(answer.id for answer in one.source),
                "target": " ".join(answer.id for answer in one.target),
            }
        )
        for one in queries
    ]
    return dg.MetadataValue.table(
        records, schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns])
    )
