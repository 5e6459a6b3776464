"""Special functions in host memory, by SciPy. Importing this file loads SciPy; nothing else does.

Knows NumPy arrays only. `base` brings arrays of any kind here and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from helixml import dtypes
from helixml.dtypes import DType

__all__ = ["evaluate"]


def evaluate(name: str, operands: Sequence[Any], dtype: DType) -> np.ndarray[Any, Any]:
    """Return ``scipy.special.NAME`` of arrays of ``dtype`` and numbers, rounded to ``dtype``.

    All is computed in float64, since some of SciPy's loops of float32 are less precise than that
    format allows, and it has none of bfloat16.
    """
    wide = [x.astype(dtypes.float64) if isinstance(x, np.ndarray) else x for x in operands]
    with np.errstate(all="ignore"):  # nan and inf say it, as with every other op
        return np.asarray(getattr(special, name)(*wide)).astype(dtype)
