"""What an index means: any index that NumPy takes, as a basic part and positions within it.

`plain` makes tensors, lists and scalars plain things; `select` works out a `Selection`, by NumPy's
rules: which axes are left as slices, where the axes of index arrays go in the result, and what is
wrong with an index that does not fit. Works on host integers only, and knows no op: `indexing` and
`updates_at` fetch and write by what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.tensor import Tensor
from helixml.errors import IndexingError

HostArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Selection:
    """The part of a tensor that an index selects.

    First the ``basic`` index, of slices and None (and integers, where there are no arrays), which
    gives ``rows``. Then, where there are arrays, the axes of ``rows`` from ``axis`` on that
    ``positions`` covers are one axis, and the result has the entries at ``positions`` there; at
    last its first ``leading`` axes from ``axis`` on go to the front, if ``to_front``.
    """

    index: tuple[Any, ...]  # for NumPy
    shape: tuple[int, ...]
    basic: tuple[Any, ...]
    rows: tuple[int, ...]
    positions: HostArray | None
    axis: int
    merged: int  # how many axes of `rows` the positions cover
    leading: int
    to_front: bool

    @property
    def is_whole(self) -> bool:
        """Whether the basic index selects everything as it is."""
        return all(isinstance(item, slice) and item == slice(None) for item in self.basic)

    @property
    def count(self) -> int:
        """How many entries the positions choose from."""
        return prod(self.rows[self.axis : self.axis + self.merged])

    @property
    def line(self) -> tuple[int, ...]:
        """The shape of ``rows`` with the covered axes as one."""
        return (*self.rows[: self.axis], self.count, *self.rows[self.axis + self.merged :])

    @property
    def taken(self) -> tuple[int, ...]:
        """The shape of the result before anything goes to the front."""
        if self.positions is None:
            return self.rows
        before, behind = self.rows[: self.axis], self.rows[self.axis + self.merged :]
        return (*before, *self.positions.shape, *behind)

    @property
    def order(self) -> tuple[int, ...]:
        """For each axis of the result, which of ``taken`` goes there."""
        first = range(self.axis, self.axis + self.leading) if self.to_front else range(0)
        return (*first, *(a for a in range(len(self.taken)) if a not in first))

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(self.taken[a] for a in self.order)


def plain(index: Any) -> tuple[tuple[Any, ...], bool]:
    """Return (index as a tuple of plain things, whether an array or boolean is among them)."""
    items = index if isinstance(index, tuple) else (index,)
    arrays = False
    cleaned: list[Any] = []
    for item in items:
        if isinstance(item, Tensor):
            kind = dtypes.kind(item.dtype)
            if kind not in "bui":
                raise IndexingError(
                    f"index: a tensor of {item.dtype} cannot index. Hint: integers or booleans."
                )
            host = item._backend.to_numpy(item._array)
            if item.ndim == 0 and kind != "b":
                cleaned.append(int(host))
                continue
            cleaned.append(host)
            arrays = True
        elif isinstance(item, (list, tuple, range, np.ndarray)):
            cleaned.append(_array(item))
            arrays = True
        elif isinstance(item, (bool, np.bool_)):
            cleaned.append(np.asarray(item))
            arrays = True
        elif item is None or item is Ellipsis or isinstance(item, slice):
            cleaned.append(item)
        elif hasattr(item, "__index__"):
            cleaned.append(item.__index__())
        else:
            raise IndexingError(
                f"index: {item!r:.80} cannot index. Hint: integers, slices, None, ... or arrays."
            )
    return tuple(cleaned), arrays


def _array(item: Any) -> HostArray:
    try:
        array = np.asarray(item)
    except ValueError as error:
        raise IndexingError(f"index: {item!r:.80} is no array: {error}") from error
    if array.size == 0 and not isinstance(item, np.ndarray):  # NumPy makes it float64
        array = array.astype(np.int64)
    if array.dtype.kind not in "bui":
        raise IndexingError(
            f"index: an array of {array.dtype} cannot index. Hint: integers or booleans."
        )
    return array


def show(index: tuple[Any, ...]) -> str:
    """Return a plain index as a message shows it."""
    shown = [f"array{i.shape}" if isinstance(i, np.ndarray) else repr(i) for i in index]
    return "[" + ", ".join(shown).replace("Ellipsis", "...") + "]"


def refused(shape: tuple[int, ...], index: tuple[Any, ...], reason: str) -> IndexingError:
    """Return the error for an index that does not fit."""
    return IndexingError(f"index: shape {shape} does not take {show(index)}: {reason}.")


def select(shape: tuple[int, ...], index: tuple[Any, ...]) -> Selection:
    """Return what a plain ``index`` selects of a tensor of ``shape``."""
    items = _spelled_out(shape, index)
    basic: list[Any] = []
    arrays: dict[int, HostArray] = {}  # by axis of the rows
    rows: list[int] = []
    last = 0  # the last array among `items`, to find out whether others stand between
    apart = False
    advanced = any(isinstance(item, np.ndarray) for item in items)
    whole = slice(None)
    sizes = iter(enumerate(shape))
    for place, item in enumerate(items):
        if item is None:
            basic.append(None)
            rows.append(1)
        elif item is Ellipsis:
            pass  # it stands for no axis, but does stand between arrays
        elif isinstance(item, slice):
            axis, size = next(sizes)
            basic.append(item)
            try:
                rows.append(len(range(size)[item]))
            except (TypeError, ValueError) as error:
                raise refused(shape, index, f"{error}, in axis {axis}") from error
        elif isinstance(item, np.ndarray) and item.dtype.kind == "b":  # of no axes
            basic.append(None)
            arrays[len(rows)] = np.arange(int(item))
            rows.append(1)
        else:
            axis, size = next(sizes)
            checked = _checked(shape, index, axis, item)
            if not advanced:
                basic.append(int(checked))
                continue
            basic.append(whole)
            arrays[len(rows)] = checked
            rows.append(size)
        if item is not Ellipsis and len(rows) - 1 in arrays:
            apart = apart or (len(arrays) > 1 and place != last + 1)
            last = place
    if not advanced:
        return Selection(index, shape, tuple(basic), tuple(rows), None, 0, 0, 0, False)
    try:
        common = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        found = " and ".join(str(array.shape) for array in arrays.values())
        raise refused(shape, index, f"arrays of shapes {found} do not broadcast") from None
    first, end = min(arrays), max(arrays) + 1
    between = [a for a in range(first, end) if a not in arrays]
    positions = np.zeros((*common, *(rows[a] for a in between)), np.int64)
    for a in range(first, end):
        where = arrays.get(a)
        if where is None:
            steps = [1] * positions.ndim
            steps[len(common) + between.index(a)] = rows[a]
            where = np.arange(rows[a]).reshape(steps)
        else:
            where = where.reshape(where.shape + (1,) * len(between))
        positions = positions * rows[a] + where
    return Selection(
        index,
        shape,
        tuple(basic),
        tuple(rows),
        positions,
        first,
        end - first,
        len(common),
        apart and first > 0,
    )


def _covers(item: Any) -> int:
    """Return for how many axes an item of an index stands."""
    if item is None or item is Ellipsis:
        return 0
    is_mask = isinstance(item, np.ndarray) and item.dtype.kind == "b"
    return item.ndim if is_mask else 1


def _spelled_out(shape: tuple[int, ...], index: tuple[Any, ...]) -> list[Any]:
    """Return one item for each axis and new axis: no ellipsis (unless empty), no long masks."""
    given = sum(map(_covers, index))
    if given > len(shape):
        reason = f"too many indices: {given} for {len(shape)} dimensions"
        raise refused(shape, index, reason)
    items = list(index)
    dots = [place for place, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise refused(shape, index, "it has more than one ellipsis ('...')")
    missing = [slice(None)] * (len(shape) - given)
    if not dots:
        items += missing
    elif missing:
        items[dots[0] : dots[0] + 1] = missing
    result: list[Any] = []
    axis = 0
    for item in items:
        axes = range(axis, axis + _covers(item))
        if isinstance(item, np.ndarray) and item.dtype.kind == "b" and item.ndim:
            wanted = tuple(shape[a] for a in axes)
            if item.shape != wanted:
                reason = f"a mask of shape {item.shape} stands for axes of sizes {wanted}"
                raise refused(shape, index, reason)
            result += item.nonzero()
        else:
            result.append(item)
        axis = axes.stop
    return result


def _checked(
    shape: tuple[int, ...], index: tuple[Any, ...], axis: int, item: int | HostArray
) -> HostArray:
    """Return positions along ``axis`` counted from the front."""
    size = shape[axis]
    array = np.asarray(item)  # of objects, if the integer is huge
    low, high = (int(array.min()), int(array.max())) if array.size else (0, -1)
    if low < -size or high >= size:
        wrong = low if low < -size else high
        reason = f"index {wrong} is out of bounds for axis {axis} with size {size}"
        raise refused(shape, index, reason)
    array = array.astype(np.int64)
    return np.where(array < 0, array + size, array)
