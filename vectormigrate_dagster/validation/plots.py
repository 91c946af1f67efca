"""Plots of a validation as SVG texts: for the report page and for the Dagster UI.

Colours are variables with a value that can be read on light and dark, so that a page may set its own. Every text that
comes from a database is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from vectormigrate_dagster.validation.figures import Histogram, Projection, SearchGroup

_INK = "var(--ink, #808894)"
_FAINT = "var(--line, #80889455)"
_SOURCE = "var(--source, #e08a1e)"
_TARGET = "var(--target, #2f7fd6)"
_BAD = "var(--bad, #d64545)"

_WIDTH = 560
_BAR_HEIGHT = 26
_LABEL_WIDTH = 96
_RIGHT_MARGIN = 64
_GOOD_CLASSES = 5
"""Of a histogram: from the sixth on, a vector is turned by more than rounding explains."""


def histogram(figure: Histogram) -> str:
    """Bars of how many vectors are how far turned away; their lengths are logarithms, for few wrong ones matter."""
    longest = math.log10(1 + max(figure.counts, default=0)) or 1.0
    room = _WIDTH - _LABEL_WIDTH - _RIGHT_MARGIN
    bars = []
    for row, (label, count) in enumerate(zip(figure.labels, figure.counts, strict=True)):
        y = row * _BAR_HEIGHT
        length = round(room * math.log10(1 + count) / longest, 1)
        colour = _TARGET if row < _GOOD_CLASSES else _BAD
        bars.append(_text(_LABEL_WIDTH - 10, y + 17, label, anchor="end"))
        if count:
            bars.append(f'<rect x="{_LABEL_WIDTH}" y="{y + 4}" width="{length}" height="18" rx="3" fill="{colour}"/>')
        bars.append(_text(_LABEL_WIDTH + length + 8, y + 17, f"{count:,}", strong=count > 0))
    title = f"How far vectors '{figure.what}' of the target are turned away from those promised"
    return _svg(_WIDTH, len(figure.labels) * _BAR_HEIGHT + 4, title, bars)


def overlap_curve(group: SearchGroup, *, min_overlap: float | None = None) -> str:
    """The mean overlap at every depth: the target's as a line, the source's dashed, what is demanded dotted."""
    height, left, bottom, top = 240, 44, 34, 12
    curves = [group.target.curve, *([group.source.curve] if group.source is not None else [])]
    least = min([value for curve in curves for value in curve] + ([min_overlap] if min_overlap is not None else []))
    low = max(0.0, math.floor((least - 0.02) * 10) / 10)
    depth = len(group.target.curve)

    def x(rank: float) -> float:
        return round(left + (_WIDTH - left - 16) * ((rank - 1) / (depth - 1) if depth > 1 else 0.5), 1)

    def y(share: float) -> float:
        return round(top + (height - top - bottom) * (1 - share) / (1 - low), 1)

    parts = []
    for share in _ticks(low):
        parts.append(_line(left, y(share), _WIDTH - 16, y(share), _FAINT))
        parts.append(_text(left - 8, y(share) + 4, f"{share:.2f}", anchor="end"))
    for rank in sorted({1, depth, *range(1, depth + 1, max(1, depth // 5))}):
        parts.append(_text(x(rank), height - bottom + 18, str(rank), anchor="middle"))
    if min_overlap is not None:
        parts.append(_line(left, y(min_overlap), _WIDTH - 16, y(min_overlap), _BAD, dash="2 4"))
    if group.source is not None:
        parts += _curve([(x(i + 1), y(v)) for i, v in enumerate(group.source.curve)], _SOURCE, dash="7 5")
    parts += _curve([(x(i + 1), y(v)) for i, v in enumerate(group.target.curve)], _TARGET)
    return _svg(_WIDTH, height, f"Overlap with exact search by depth, {group.name}", parts)


def projection(figure: Projection) -> str:
    """Records on a plane: what was promised as rings, what the target holds as dots, with a line between them."""
    size, margin = 420, 14

    def at(value: float) -> float:
        return round(size / 2 + value * (size / 2 - margin), 1)

    lines, rings, dots = [], [], []
    for sx, sy, tx, ty in figure.points:
        a, b, c, d = at(sx), at(-sy), at(tx), at(-ty)
        if math.hypot(a - c, b - d) > 1:
            lines.append(_line(a, b, c, d, _BAD))
        rings.append(f'<circle cx="{a}" cy="{b}" r="4"/>')
        dots.append(f'<circle cx="{c}" cy="{d}" r="1.8"/>')
    frame = f'<rect x="1" y="1" width="{size - 2}" height="{size - 2}" rx="8" fill="none" stroke="{_FAINT}"/>'
    ringed = f'<g fill="none" stroke="{_SOURCE}" stroke-opacity=".65">{"".join(rings)}</g>'
    dotted = f'<g fill="{_TARGET}">{"".join(dots)}</g>'
    title = f"Source and target of {len(figure.points):,} records on the plane of the two main directions"
    return _svg(size, size, title, [frame, *lines, ringed, dotted])


def _ticks(low: float) -> list[float]:
    """Round shares from `low` to 1, at most seven."""
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if (1 - low) / step <= 6)
    return [round(1 - place * step, 2) for place in range(int((1 - low) / step + 1.001))]


def _curve(points: Sequence[tuple[float, float]], colour: str, *, dash: str = "") -> list[str]:
    path = " ".join(f"{x},{y}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dashed}/>'
    return [line, *(f'<circle cx="{x}" cy="{y}" r="3.2" fill="{colour}"/>' for x, y in points[:50])]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{dashed}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", strong: bool = False) -> str:
    weight = ' font-weight="600"' if strong else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{_INK}"{weight}>{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    named = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{named}" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{named}</title>{''.join(parts)}</svg>"
    )
