"""What becomes of every feature in all sixteen directions, told by the plan itself.

`python -m vectormigrate_dagster_tests.matrix` writes docs/matrix.md; a test keeps the two alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import TYPES, capabilities_of
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.mapping.profile import Profiler
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster_tests.matrix_features import Feature, Sample, features

DOCUMENT = Path(__file__).parent.parent / "docs" / "matrix.md"

_SEVERITY = list(Grade)
_HEAD = """\
# What becomes of what, in all sixteen directions

Made from the code by `python -m vectormigrate_dagster_tests.matrix`; every cell is what the plan of a small collection
with that feature says, between servers of the newest version that we know.

- **exact**: what comes back is what was there.
- **widened**: everything is held, in another form (as JSON text in one field, as a UUIDv5 beside the original, under
  another name, an int as a float); the way back is known.
- **lossy**: something is altered, or single records are refused and listed; only if the migration file allows it.
- **refused**: the plan stops; the migration file has to drop or re-type it.
- **-**: the source cannot hold it.
"""


@dataclass(frozen=True)
class Cell:
    """One feature in one direction.

    Args:
        grade: the worst that the plan says of it; None where the source cannot have the feature.
        why: what the plan says.
        sample: a collection of the source that has it.
    """

    source: str
    target: str
    feature: Feature
    grade: Grade | None
    why: str = ""
    sample: Sample | None = None


def cells() -> list[Cell]:
    """Every cell: features x sources x targets, in the order of the document."""
    return [_cell(feature, source, target) for feature in features() for source in TYPES for target in TYPES]


def document(found: list[Cell]) -> str:
    """The matrix as Markdown."""
    lines = [_HEAD]
    for source in TYPES:
        lines.append(f"## From {capabilities_of(source).title}\n")
        own = [cell for cell in found if cell.source == source]
        for group, members in groupby(own, lambda cell: cell.feature.group):
            lines.append(f"| {group} | {' | '.join(capabilities_of(target).title for target in TYPES)} |")
            lines.append("|---" * (len(TYPES) + 1) + "|")
            for name, row in groupby(members, lambda cell: cell.feature.name):
                grades = [cell.grade.value if cell.grade is not None else "-" for cell in row]
                if set(grades) != {"-"}:
                    lines.append(f"| {name} | {' | '.join(grades)} |")
            lines.append("")
    counts = Counter(cell.grade.value for cell in found if cell.grade is not None)
    lines.append("## Counts\n")
    lines.append(", ".join(f"{counts[grade.value]} {grade.value}" for grade in Grade) + ".\n")
    return "\n".join(lines)


def _cell(feature: Feature, source: str, target: str) -> Cell:
    here, there = capabilities_of(source), capabilities_of(target)
    sample = feature.build(here)
    if sample is None:
        return Cell(source, target, feature, None)
    profiler = Profiler()
    for batch in sample.batches:
        profiler.add(batch)
    profile = profiler.profile(complete=True)
    _, report = map_schema(sample.schema, here, there, MappingConfig(), profile, collection="Copy")
    rows = [row for row in report.rows if row.code.startswith(feature.codes)]
    worst = max(rows, key=_severity, default=None)
    if worst is None:
        return Cell(source, target, feature, Grade.EXACT, "nothing to do", sample)
    return Cell(source, target, feature, worst.grade, worst.reason, sample)


def _severity(row: LossRow) -> int:
    return _SEVERITY.index(row.grade)


if __name__ == "__main__":
    DOCUMENT.write_text(document(cells()), encoding="utf-8")
