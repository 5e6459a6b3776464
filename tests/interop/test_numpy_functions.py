"""NumPy's functions of Tensors give what they give for arrays, and stay on the tape.

`CALLS` has at least one call of every function that is answered. Arrays in it are made Tensors, or
stay as they are for what NumPy gives.
"""

import re

import numpy as np
import pytest

import helixml as hx
from helixml.errors import DTypeError
from helixml.ops.numpy_protocol import full_name, rule_of
from helixml.testing import check_gradients

pytestmark = pytest.mark.usefixtures("plain_settings")

rng = np.random.default_rng(0)
V = rng.uniform(0.2, 2.0, 5)  # a vector
W = rng.uniform(0.2, 2.0, 5)
M = rng.normal(size=(3, 4))
N = rng.normal(size=(3, 4))
S = rng.normal(size=(4, 4))
T = rng.normal(size=(2, 3, 4))
I = np.array([3, 1, 4, 1, 5])
J = np.array([2, 7, 1, 8, 2])
B = np.array([True, False, True, True, False])
C = np.array([False, False, True, True, True])
H = np.array([1.0, np.nan, 3.0, -2.0])
Z = rng.normal(size=5) + 1j * rng.normal(size=5)
LINE = np.array([0.0, 1.0, 2.5, 4.0])
ZEROS = np.array([0.0, 0.0, 1.0, 2.0, 0.0])

CALLS = [
    # elementwise
    *[(f, V) for f in (np.sqrt, np.exp, np.log, np.log1p, np.log2, np.log10, np.expm1, np.exp2)],
    *[(f, M) for f in (np.sin, np.cos, np.tan, np.sinh, np.cosh, np.tanh, np.arctan, np.arcsinh)],
    *[(f, V / 3) for f in (np.arcsin, np.arccos, np.arctanh)],
    *[(f, M) for f in (np.negative, np.positive, np.absolute, np.fabs, np.square, np.sign)],
    *[(f, M) for f in (np.floor, np.ceil, np.trunc, np.rint, np.signbit, np.cbrt)],
    *[(f, M) for f in (np.deg2rad, np.rad2deg, np.degrees, np.radians, np.isreal, np.iscomplex)],
    *[(f, H) for f in (np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf)],
    *[(f, V, W) for f in (np.add, np.subtract, np.multiply, np.divide, np.power, np.float_power)],
    *[(f, V, W) for f in (np.maximum, np.minimum, np.hypot, np.arctan2, np.logaddexp)],
    *[(f, V, W) for f in (np.floor_divide, np.remainder, np.fmod, np.copysign, np.nextafter)],
    *[(f, V, W) for f in (np.equal, np.not_equal, np.less, np.less_equal, np.greater)],
    *[(f, B, C) for f in (np.logical_and, np.logical_or, np.logical_xor)],
    *[(f, I, J) for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift)],
    *[(f, Z) for f in (np.conjugate, np.real, np.imag, np.angle)],
    (np.angle, Z, True),
    (np.arccosh, V + 1),
    (np.reciprocal, V),
    (np.greater_equal, V, 1.0),
    (np.right_shift, J, 1),
    (np.logical_not, B),
    (np.invert, I),
    (np.logaddexp2, V, W),
    (np.divmod, V, W),
    (np.fmod, np.array([1e17, -7.5, 5.0]), np.array([3.0, 2.0, -3.0])),
    (np.fmod, I, -J),
    (np.modf, np.array([np.inf, -2.5])),
    (np.ldexp, np.array([1.0]), np.array([300])),
    (np.round, I, 2),
    (np.modf, M),
    (np.ldexp, V, I),
    (np.heaviside, np.array([-1.0, 0.0, 2.0]), 0.5),
    (np.fmax, H, 0.0),
    (np.fmin, H, 0.0),
    (np.fix, M),
    (np.round, M * 10, 1),
    (np.around, M),
    (np.clip, M, -0.5, 0.5),
    (np.clip, M, None, 0.5),
    (np.nan_to_num, H, {"nan": 7.0}),
    (np.sinc, np.array([0.0, 0.5, -1.5])),
    (np.isclose, V, V + 1e-9),
    (np.where, B, V, W),
    (np.where, B, V, 0.0),
    (np.where, B),
    (np.select, [V > 1.5, V > 1.0], [V, W], {"default": -1.0}),
    (np.compress, B, V),
    (np.extract, B, V),
    # like another
    (np.zeros_like, M),
    (np.ones_like, M, {"dtype": np.int64}),
    (np.full_like, M, 3.0),
    (np.full_like, M, 3.0, {"shape": (2,)}),
    (np.linspace, V[:2], W[:2], 4),
    (np.linspace, V[:2], W[:2], {"num": 3, "endpoint": False, "axis": -1}),
    # shapes
    (np.reshape, M, (4, 3)),
    (np.reshape, M, (4, 3), {"order": "F"}),
    (np.reshape, M, -1),
    (np.ravel, M),
    (np.ravel, M, "F"),
    (np.transpose, T),
    (np.transpose, T, (1, 0, 2)),
    (np.matrix_transpose, T),
    (np.swapaxes, T, 0, -1),
    (np.moveaxis, T, 0, -1),
    (np.rollaxis, T, 2),
    (np.rollaxis, T, 0, 3),
    (np.expand_dims, M, 1),
    (np.squeeze, M[:, :1]),
    (np.squeeze, M[:, :1], {"axis": 1}),
    (np.broadcast_to, V, (2, 5)),
    (np.broadcast_arrays, V, M[:, :1]),
    (np.meshgrid, V, W, {"indexing": "ij"}),
    *[(f, M) for f in (np.fliplr, np.flipud, np.flip, np.rot90, np.copy)],
    (np.rot90, M, 2),
    (np.rot90, M, 3),
    (np.roll, M, 1),
    (np.roll, M, (1, 2), (0, 1)),
    *[(f, np.array(2.5)) for f in (np.atleast_1d, np.atleast_2d, np.atleast_3d)],
    (np.atleast_3d, V, M),
    (np.concatenate, [M, N]),
    (np.concatenate, [M, N], {"axis": None}),
    (np.stack, [M, N], {"axis": -1}),
    (np.vstack, [V, W]),
    (np.hstack, [V, W]),
    (np.hstack, [M, N]),
    (np.dstack, [M, N]),
    (np.column_stack, [V, W]),
    (np.block, [[M, N], [N, M]]),
    (np.append, M, N),
    (np.append, M, N, {"axis": 0}),
    (np.split, M, 2, 1),
    (np.split, M, [1, 3], {"axis": 1}),
    (np.array_split, V, 3),
    (np.hsplit, M, 2),
    (np.vsplit, M, 3),
    (np.dsplit, T, 2),
    (np.unstack, M),
    (np.tile, M, (2, 1)),
    (np.repeat, M, 2, 1),
    (np.repeat, M, 2),
    (np.delete, V, 1),
    (np.delete, M, [0, 2], 0),
    (np.insert, V, 2, 9.0),
    (np.insert, M, 1, 0.0, {"axis": 1}),
    (np.resize, V, (2, 4)),
    (np.pad, M, 1),
    (np.pad, V, (1, 2), {"constant_values": 3.0}),
    (np.pad, M, ((1, 1), (2, 0)), "edge"),
    (np.pad, M, 1, "reflect"),
    (np.trim_zeros, ZEROS),
    (np.astype, M, np.float32),
    # diagonals
    (np.diagonal, S),
    (np.diagonal, T, 1, 1, 2),
    (np.trace, S),
    (np.trace, M, -1),
    (np.diag, V),
    (np.diag, V, -1),
    (np.diag, M, 1),
    (np.diagflat, M),
    (np.tril, S),
    (np.triu, S, 1),
    (np.vander, V, 3),
    (np.vander, V, {"increasing": True}),
    # reductions
    *[(f, M) for f in (np.sum, np.prod, np.mean, np.std, np.var, np.max, np.min, np.amax)],
    *[(f, M) for f in (np.amin, np.ptp, np.average, np.median, np.argmax, np.argmin)],
    *[(f, M, {"axis": 0}) for f in (np.sum, np.prod, np.mean, np.std, np.var, np.max, np.min)],
    *[(f, M, 1, {"keepdims": True}) for f in (np.sum, np.mean, np.max, np.median, np.ptp)],
    (np.sum, M, {"dtype": np.float32}),
    (np.mean, I, {"dtype": np.float64}),
    (np.std, M, {"axis": 1, "ddof": 1}),
    (np.var, M, {"axis": 1, "correction": 1}),
    (np.average, M, {"axis": 1, "weights": np.arange(1.0, 5.0)}),
    (np.quantile, M, 0.3, {"axis": 1}),
    (np.quantile, M, [0.0, 0.5, 1.0]),
    (np.median, np.array([1.0, 2.0, np.inf])),
    (np.median, np.array([np.inf, np.inf])),
    (np.median, H),
    (np.percentile, M, 40, {"axis": 0, "keepdims": True}),
    (np.count_nonzero, ZEROS),
    (np.all, B),
    (np.any, M > 0, 1),
    *[(f, H) for f in (np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd, np.nanmax)],
    *[(f, H) for f in (np.nanmin, np.nancumsum, np.nancumprod, np.nanargmax, np.nanargmin)],
    (np.cumsum, M),
    (np.cumsum, M, 1),
    (np.cumprod, M, 0),
    (np.cumulative_sum, V, {"include_initial": True}),
    (np.cumulative_prod, V),
    (np.add.reduce, M),
    (np.add.reduce, M, {"axis": None}),
    (np.multiply.reduce, M, {"axis": 1, "keepdims": True}),
    (np.maximum.reduce, M, 1),
    (np.logical_or.reduce, B),
    (np.add.accumulate, M, {"axis": 1}),
    (np.subtract.outer, V, W),
    # positions and order
    (np.sort, M),
    (np.sort, M, None),
    (np.argsort, M, 0),
    (np.partition, np.array([3.0, 1.0, 2.0]), (0, 1, 2)),
    (np.argsort, M, None),
    (np.argwhere, M > 0),
    (np.flatnonzero, ZEROS),
    (np.nonzero, ZEROS),
    (np.searchsorted, LINE, V),
    (np.digitize, V, LINE),
    (np.isin, I, [1, 4]),
    (np.lexsort, (I, J)),
    (np.take, M, [2, 0], 0),
    (np.take, M, [5, 1]),
    (np.take_along_axis, M, np.argsort(M, axis=1), 1),
    (np.unravel_index, I, (3, 4)),
    # sets
    (np.unique, I),
    (np.unique, I, {"return_inverse": True, "return_counts": True}),
    (np.unique_all, V[[0, 1, 1]]),
    (np.union1d, I, J),
    (np.intersect1d, I, J),
    (np.setdiff1d, I, J),
    (np.setxor1d, I, J),
    (np.bincount, I),
    (np.bincount, I, W),
    # products
    (np.matmul, M, S),
    (np.dot, M, S),
    (np.dot, V, W),
    (np.dot, T, S),
    (np.inner, M, N),
    (np.vdot, M, N),
    (np.vdot, Z, Z),
    (np.outer, V, W),
    (np.kron, M, N),
    (np.cross, M[:, :3], N[:, :3]),
    (np.tensordot, T, S, 1),
    (np.vecdot, M, N),
    *([(np.matvec, T, M[0]), (np.vecmat, M[0, :3], T)] if hasattr(np, "matvec") else []),
    (np.einsum, "ij,jk->ik", M, S),
    (np.einsum, "ij,ij", M, N),
    (np.einsum, "bij,jk,b->k", T, S, V[:2]),
    (np.einsum, "...ij,jk->...ik", T, S),
    (np.einsum, "ii->i", S),
    (np.einsum, "ii", S),
    (np.linalg.matmul, M, S),
    (np.linalg.vecdot, M, N),
    (np.linalg.tensordot, T, S, {"axes": 1}),
    (np.linalg.outer, V, W),
    (np.linalg.cross, M[:, :3], N[:, :3]),
    (np.linalg.trace, T),
    (np.linalg.diagonal, T, {"offset": 1}),
    (np.linalg.matrix_transpose, M),
    (np.linalg.multi_dot, [M, S, S]),
    (np.linalg.matrix_power, S, 5),
    (np.linalg.matrix_power, S, 0),
    (np.linalg.norm, M),
    (np.linalg.norm, V, 3),
    (np.linalg.norm, V, np.inf),
    (np.linalg.norm, M, 1),
    (np.linalg.norm, M, {"axis": 1, "keepdims": True}),
    (np.linalg.norm, T, {"axis": (1, 2)}),
    (np.linalg.vector_norm, M),
    (np.linalg.matrix_norm, T),
    # statistics and signals
    (np.cov, M),
    (np.cov, V, W),
    (np.corrcoef, M),
    (np.diff, M),
    (np.diff, V, 2),
    (np.diff, V, {"prepend": 0.0}),
    (np.ediff1d, V, 9.0),
    (np.trapezoid, V),
    (np.trapezoid, M, LINE),
    (np.gradient, V),
    (np.gradient, M, 0.5),
    (np.gradient, M, LINE, {"axis": 1}),
    (np.interp, V * 2, LINE, LINE**2),
    (np.interp, np.array([-1.0, 9.0]), LINE, LINE**2, {"left": 5.0}),
    *[(np.convolve, V, W[:3], mode) for mode in ("full", "same", "valid")],
    *[(np.correlate, V, W[:3], mode) for mode in ("full", "same", "valid")],
    (np.correlate, W[:3], V, "full"),
    (np.convolve, W[:2], V),
    (np.polyval, V, W),
    (np.fft.fftshift, M),
    (np.fft.ifftshift, V),
    (np.apply_along_axis, lambda row: (row * row).sum(), 1, M),
    (np.apply_along_axis, lambda row: row[:2] * 2, 0, M),
    (np.apply_over_axes, np.sum, T, (0, 2)),
    (np.piecewise, V, [V > 1], [lambda x: x * x, lambda x: -x]),
    (np.gradient, V, {"edge_order": 2}),
    (np.gradient, M, LINE[:3], 0.5),
    (np.quantile, V, 0.3, {"method": "lower"}),
    (np.quantile, M, [0.1, 0.5], {"axis": 1, "keepdims": True}),
    (np.percentile, M, 30, {"axis": 0, "method": "nearest"}),
    (np.nanpercentile, H, 30),
    (np.nanquantile, H, [0.2, 0.9]),
    (np.nanmedian, H),
    (np.frexp, V),
    (np.gcd, I, J),
    (np.lcm, I, J),
    (np.i0, V),
    *[(f, I) for f in (np.unique_counts, np.unique_inverse)],
    (np.histogram, V, {"bins": 3}),
    (np.histogram, V, {"bins": LINE, "weights": W}),
    # linear algebra
    *[(f, S) for f in (np.linalg.det, np.linalg.inv, np.linalg.eigvals, np.linalg.slogdet)],
    *[(f, S) for f in (np.linalg.svdvals, np.linalg.cond, np.linalg.matrix_rank, np.linalg.pinv)],
    *[(f, S @ S.T) for f in (np.linalg.cholesky, np.linalg.eigvalsh, np.linalg.eigh)],
    (np.linalg.cond, S, 1),
    (np.linalg.solve, S, M.T),
    (np.linalg.lstsq, M.T, V[:4]),
    (np.linalg.norm, S, "nuc"),
    (np.linalg.matrix_power, S, -2),
    (np.linalg.qr, S),
    (np.linalg.svd, S, {"compute_uv": False}),
    # Fourier transforms
    *[(f, V) for f in (np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.ihfft)],
    *[(f, M) for f in (np.fft.fft2, np.fft.fftn, np.fft.rfft2, np.fft.rfftn)],
    *[(f, M + 1j * N) for f in (np.fft.ifft2, np.fft.ifftn, np.fft.irfft, np.fft.irfft2)],
    *[(f, M + 1j * N) for f in (np.fft.irfftn, np.fft.hfft)],
    (np.fft.fft, M, 6, 0, "ortho"),
    (np.fft.rfftn, T, {"axes": (0, 2)}),
    # what only looks
    *[(f, M) for f in (np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj)],
    (np.size, M, 1),
    *[(f, M) for f in (np.array_str, np.array2string)],
    *[(f, V, W) for f in (np.array_equal, np.array_equiv, np.allclose, np.result_type)],
    (np.shares_memory, V, V),
    (np.may_share_memory, V, W),
]


def split(call):
    function, *args = call
    options = args.pop() if isinstance(args[-1], dict) else {}
    return function, args, options


def replaced(value, make):
    if isinstance(value, np.ndarray):
        return make(value)
    if isinstance(value, (list, tuple)) and any(isinstance(x, (np.ndarray, list)) for x in value):
        return type(value)(replaced(x, make) for x in value)
    return value


def name_of(function):
    if hasattr(function, "__self__"):
        return f"{function.__self__.__name__}.{function.__name__}"
    return full_name(function)


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated:DeprecationWarning")  # from 2.5 on
@pytest.mark.parametrize("call", CALLS, ids=[f"{i}-{name_of(c[0])}" for i, c in enumerate(CALLS)])
def test_gives_what_numpy_gives(call):
    function, args, options = split(call)
    expected = function(*args, **options)
    tensors = [replaced(arg, hx.asarray) for arg in args]
    found = function(*tensors, **{k: replaced(v, hx.asarray) for k, v in options.items()})
    assert isinstance(found, (list, tuple)) == isinstance(expected, (list, tuple))
    if not isinstance(expected, (list, tuple)):
        found, expected = [found], [expected]
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        if isinstance(y, np.ndarray) and function not in (np.shape,):
            assert isinstance(x, hx.Tensor)
            assert x.shape == y.shape
        values = x.numpy() if isinstance(x, hx.Tensor) else x
        if isinstance(y, (str, bool, np.dtype)):
            assert values == y
        else:
            kind = np.asarray(y).dtype
            tolerance = 1e-5 if kind == np.float32 else 1e-10
            np.testing.assert_allclose(values, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("call", CALLS, ids=[f"{i}-{name_of(c[0])}" for i, c in enumerate(CALLS)])
def test_a_float_result_is_on_the_tape(call):
    function, args, options = split(call)
    leaves = []

    def leaf(value):
        leaves.append(hx.tensor(value, requires_grad=value.dtype.kind in "fc"))
        return leaves[-1]

    made = name_of(function) in ("zeros_like", "ones_like", "full_like", "histogram")
    made = made or (function is np.linalg.matrix_power and args[1] == 0)
    found = function(*[replaced(arg, leaf) for arg in args], **options)
    for x in found if isinstance(found, (list, tuple)) else [found]:
        if isinstance(x, hx.Tensor) and not made and x.dtype.kind in "fc":
            assert x.requires_grad == any(t.requires_grad for t in leaves)


def test_as_many_functions_are_answered_as_the_readme_says():
    assert len({name_of(function) for function, *_ in CALLS}) > 275


GRADIENTS = [
    np.linalg.norm,
    np.cov,
    lambda x: np.einsum("ij,kj,k->i", x, x, x[:, 0]),
    lambda x: np.pad(x, 1, "reflect"),
    lambda x: np.quantile(x, [0.2, 0.7], axis=1),
    lambda x: np.gradient(x, 0.3, axis=0),
    lambda x: np.kron(x, x),
    lambda x: np.nanmean(x, axis=0),
    lambda x: np.interp(x, np.array([-9.0, 0.1, 9.0]), np.array([1.0, 5.0, 2.0])),
    lambda x: np.convolve(x[0], x[1]),
    lambda x: np.diag(np.diagonal(x)),
    lambda x: np.apply_along_axis(lambda row: row / row.sum(), 1, x),
    lambda x: np.subtract.outer(x[0], x[1]),
    lambda x: np.where(x > 0, np.sqrt(np.abs(x)), x * x),
]


@pytest.mark.parametrize("function", GRADIENTS, ids=map(str, range(len(GRADIENTS))))
def test_gradients_of_numpy_code(function):
    x = hx.tensor(np.random.default_rng(1).uniform(0.3, 1.7, (2, 3)))
    check_gradients(function, x)


def test_unmodified_numpy_code_is_recorded():
    def standardized(x, w):
        x = (x - np.mean(x, axis=0)) / np.std(x, axis=0)
        y = np.concatenate([np.ones((len(x), 1)), np.dot(x, w)], axis=1)
        return np.sum(np.tanh(y) ** 2)

    x = np.random.default_rng(2).normal(size=(6, 3))
    w = np.random.default_rng(3).normal(size=(3, 2))
    leaf = hx.tensor(w, requires_grad=True)
    loss = standardized(x, leaf)
    assert loss.item() == pytest.approx(standardized(x, w))
    loss.backward()
    step = 1e-6 * np.eye(6).reshape(6, 3, 2)
    slopes = [(standardized(x, w + s) - standardized(x, w - s)) / 2e-6 for s in step]
    np.testing.assert_allclose(leaf.grad.numpy().ravel(), slopes, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (np.spacing, r"np\.spacing: .*np\.asarray\(t\), or t\.detach\(\)\.numpy\(\)"),
        (np.real_if_close, r"np\.real_if_close: .*np\.asarray"),
        (lambda x: np.linalg.tensorsolve(np.eye(2), x), r"np\.linalg\.tensorsolve"),
        (lambda x: np.copyto(np.zeros(2), x), r"np\.copyto"),
        (lambda x: np.sum(x, out=np.zeros(())), r"np\.sum with out="),
        (lambda x: np.sum(x, where=np.array([True, False])), r"np\.sum with where="),
        (lambda x: np.mean(x, where=np.array([True, False])), r"np\.mean with where="),
        (lambda x: np.max(x, initial=3.0), r"np\.max with initial=3\.0"),
        (lambda x: np.linalg.eigh(x * np.eye(2), "U"), r"np\.linalg\.eigh with UPLO='U'"),
        (lambda x: np.put_along_axis(x, np.array([0]), x, 0), r"np\.put_along_axis"),
        (lambda x: np.add(x, x, out=np.zeros(2)), r"np\.add with out"),
        (lambda x: np.add(x, x, where=np.array([True, False])), r"np\.add with where"),
        (lambda x: np.add(x, x, dtype=np.float32), r"np\.add with dtype"),
        (lambda x: np.add.reduceat(x, [0, 1]), r"np\.add\.reduceat"),
        (lambda x: np.add.at(x, [0], 1.0), r"np\.add\.at"),
        (lambda x: np.concatenate([x, x], dtype=np.float32), r"np\.concatenate with dtype="),
    ],
)
def test_what_has_no_rule_says_so(call, message):
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(DTypeError, match=message):
        call(x)
    with pytest.raises(TypeError):
        call(x.detach())


def test_the_largest_of_nothing_but_nan_is_nan():
    x = hx.tensor([[np.nan, np.nan], [1.0, np.nan]])
    assert np.array_equal(np.nanmax(x, axis=1).numpy(), [np.nan, 1.0], equal_nan=True)


def test_a_line_ends_where_it_is_told():
    stop = hx.tensor([0.3, 0.7], dtype="float64")
    assert np.linspace(hx.tensor(0.1), stop, 7)[-1].tolist() == [0.3, 0.7]


def test_neutral_options_are_no_obstacle():
    x = hx.tensor([1.0, 2.0])
    assert np.sum(x, out=None, where=True).item() == 3.0
    assert np.add(x, x, out=None, where=True).tolist() == [2.0, 4.0]


def test_an_array_that_gets_a_tensor_added_in_place_says_so():
    total = np.zeros(2)
    with pytest.raises(DTypeError, match=r"np\.add with out"):
        total += hx.tensor([1.0, 2.0], requires_grad=True)


def test_an_op_says_what_numpy_calls_it():
    from helixml._core.composed import composite
    from helixml._core.op import REGISTRY

    @composite(name="for_this_test_only", numpy="real_if_close")
    def renamed(x: hx.Tensor, tol: float = 100):
        return x * tol

    try:
        assert np.real_if_close(hx.tensor([2.0]), tol=3.0).tolist() == [6.0]
    finally:
        from helixml.ops import numpy_protocol

        del REGISTRY["for_this_test_only"], numpy_protocol._rules[np.real_if_close]


def test_foreign_arrays_are_left_to_their_own_library():
    class Foreign:
        def __array_function__(self, function, types, args, kwargs):
            return "foreign"

    assert np.concatenate([hx.tensor([1.0]), Foreign()]) == "foreign"
    with pytest.raises(TypeError, match=re.escape("numpy.ma")):
        np.concatenate([hx.tensor([1.0]), np.ma.masked_array([1.0], [True])])


def test_results_stay_on_the_device(other_device):
    x = hx.tensor([[1.0, 2.0], [3.0, 4.0]], device=other_device)
    for y in (np.cov(x), np.diag(x), np.pad(x, 1), np.linspace(x, 2.0, 3), np.argwhere(x > 2)):
        assert y.device == other_device


def test_every_answer_has_a_call():
    """What NumPy has and an op or adapter answers is in `CALLS`, but for ops of today's names."""
    from helixml.ops.numpy_protocol import ADAPTERS

    rule_of(np.sum)  # fills the table
    called = {name_of(function) for function, *_ in CALLS}
    left_out = {"save", "savez", "savez_compressed", "savetxt", "einsum_path", "empty_like"}
    left_out |= {"can_cast", "min_scalar_type", "common_type", "array_repr", "argpartition"}
    left_out |= {"ravel_multi_index", "diag_indices_from", "tril_indices_from", "packbits"}
    left_out |= {"triu_indices_from", "unpackbits", "matvec", "vecmat"}
    assert set(ADAPTERS) - called - left_out == set()


def random_einsum(rng):
    """Return subscripts and shapes, most of which fit together."""
    sizes = {"a": 2, "b": 3, "c": 4, "d": 1, "e": 2}
    terms, shapes = [], []
    for _ in range(rng.integers(1, 4)):
        axes = list(rng.choice(list(sizes), rng.integers(0, 4)))
        shape = [sizes[axis] for axis in axes]
        if rng.random() < 0.2:
            place = rng.integers(0, len(axes) + 1)
            axes.insert(place, "...")
            shape[place:place] = rng.choice([1, 3], rng.integers(0, 3)).tolist()
        terms.append("".join(axes))
        shapes.append(tuple(shape))
    text = ",".join(terms)
    if rng.random() < 0.7:
        kept = rng.permutation(sorted(set(text) - {".", ","}))
        kept = kept[: rng.integers(0, len(kept) + 1)]
        text += "->" + "..." * ("..." in text) + "".join(kept)
    return text, shapes


@pytest.mark.parametrize("seed", range(4))
def test_einsum_of_any_subscripts(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        text, shapes = random_einsum(rng)
        arrays = [rng.normal(size=shape) for shape in shapes]
        try:
            expected = np.einsum(text, *arrays)
        except ValueError:
            with pytest.raises(ValueError, match="einsum"):
                np.einsum(text, *map(hx.asarray, arrays))
            continue
        found = np.einsum(text, *map(hx.asarray, arrays))
        assert found.shape == expected.shape, text
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12, err_msg=text)
