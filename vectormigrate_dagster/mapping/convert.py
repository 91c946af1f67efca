"""Exact conversions of vector components. Everything else is refused in the plan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model import Dense, Element, Packed, is_valid
from vectormigrate_dagster.model.vectors import Mask

WIDENING = (Element.FLOAT16, Element.BFLOAT16, Element.INT8, Element.UINT8)
"""Elements of which every value is a float32."""


def widen(column: Packed) -> npt.NDArray[np.float32]:
    """Components as float32 (n, dim), exactly.

    Raises:
        ValueError: the element is binary, whose components are bits and not numbers.
    """
    if column.element is Element.BINARY:
        raise ValueError("a binary vector has no float32 form")
    if column.element is Element.BFLOAT16:
        # A bfloat16 is the upper half of a float32.
        return (column.values.astype(np.uint32) << 16).view(np.float32)
    return column.values.astype(np.float32)


def narrow(column: Dense, element: Element) -> tuple[Packed, Mask]:
    """Components as `element`, and the rows bool (n,) for which that is not exact: the inverse of `widen`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if element is Element.BFLOAT16:
            values = (column.values.view(np.uint32) >> 16).astype(np.uint16)
        else:
            values = column.values.astype(element.dtype)
    packed = Packed(element, column.dim, values, column.valid)
    back = widen(packed)
    same = (back == column.values) | (np.isnan(back) & np.isnan(column.values))
    return packed, is_valid(column) & ~same.all(axis=1)
