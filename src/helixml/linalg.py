"""Linear algebra: the array API standard's extension of this name, and what it lacks.

All functions take stacks of matrices, (..., m, n), of float32, float64, complex64 or complex128
where they solve or decompose, and of any numbers where they only multiply and add. They are
ordinary ops, with derivatives of any order.
"""

from helixml.ops.decomposition import cholesky, eig, eigh, eigvals, eigvalsh, qr
from helixml.ops.linalg import matmul, tensordot, vecdot
from helixml.ops.matrices import cross, diagonal, multi_dot, outer, trace
from helixml.ops.matrix_functions import expm, matrix_power
from helixml.ops.movement import matrix_transpose
from helixml.ops.norms import cond, matrix_norm, matrix_rank, norm, vector_norm
from helixml.ops.pseudo_inverse import lstsq, pinv
from helixml.ops.singular_values import svd, svdvals
from helixml.ops.solving import cholesky_solve, det, inv, logdet, slogdet, solve, triangular_solve

__all__ = [
    "cholesky",
    "cholesky_solve",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "expm",
    "inv",
    "logdet",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "triangular_solve",
    "vecdot",
    "vector_norm",
]
