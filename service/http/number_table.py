"""Rounded numbers as JSON from a table. Most gate values are in it, and it takes less than half the time of printing.

A rounded number under `LARGEST` is one of a few hundred thousand. The table holds each of them as text in eight bytes:
sign or space, digits, and a comma. Concatenated entries of a row are a row of JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LARGEST = 10
"""Bound on the absolute value of numbers in the table. Some models' cell states exceed it and are printed without it;
other gates never exceed 1."""
MOST_DECIMALS = 4
"""With more decimals the table would not fit into a CPU's cache. -9.9999 and a comma just fit into an entry."""

_CELL = 8
_BEGIN = np.frombuffer(b"[".ljust(_CELL) + b",[".ljust(_CELL), np.uint64)
"""The text before the first row, and before any other row."""
_END = ord("]")


def rows_as_json(block: NDArray[np.float32], decimals: int) -> bytes | None:
    """A block [rows, units] as JSON without its outermost brackets, each number with all its decimals.

    None if a number is too large for the table or not finite, or if `decimals` are None or too many. Rounded in float64
    like `np.round`: half to even.
    """
    return tables_as_json([block], decimals)[0]


def tables_as_json(blocks: Sequence[NDArray[np.float32]], decimals: int) -> list[bytes | None]:
    """The same of each of several blocks of one shape, which takes little longer than one."""
    if not 0 < decimals <= MOST_DECIMALS or not blocks[0].size:
        return [None] * len(blocks)
    scaled = np.stack(blocks, dtype=np.float64)
    scaled *= 10**decimals
    np.rint(scaled, out=scaled)
    table = _table(decimals)
    zero = len(table) // 2
    there = (scaled.min(axis=(1, 2)) >= -zero) & (scaled.max(axis=(1, 2)) <= zero)  # false for a NaN, too
    if not there.all():
        scaled[~there] = 0
    number, rows, units = scaled.shape
    cells = np.empty((number, rows, units + 1), np.uint64)
    cells[:, 0, 0], cells[:, 1:, 0] = _BEGIN
    cells[:, :, 1:] = table.take(scaled.astype(np.intp) + zero)  # other integers would be converted once more
    cells.view(np.uint8)[:, :, -1] = _END
    return [each.tobytes() if fits else None for each, fits in zip(cells, there.tolist(), strict=True)]


@lru_cache
def _table(decimals: int) -> NDArray[np.uint64]:
    """All numbers with `decimals` decimals, ascending, each as an entry of bytes."""
    numbers = np.arange(1 - LARGEST * 10**decimals, LARGEST * 10**decimals)
    cells = np.full((len(numbers), _CELL), ord(" "), np.uint8)
    cells[:, -1] = ord(",")
    point = _CELL - 2 - decimals
    left = np.abs(numbers)
    for place in (*range(_CELL - 2, point, -1), point - 1):
        cells[:, place] = ord("0") + left % 10
        left //= 10
    cells[:, point] = ord(".")
    cells[numbers < 0, point - 2] = ord("-")
    return cells.view(np.uint64)[:, 0]
