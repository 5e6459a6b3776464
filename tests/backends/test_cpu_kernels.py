"""The compiled CPU kernels against plain NumPy in float64, on every instruction set found here.

The references are loops over time or one-line formulas; gradients are checked against central
differences of them along random directions. Errors are the largest error over the largest
value of a tensor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helixml.backends.cpu import kernels, threads

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)


K = {name: function for name, function, *_ in kernels.KERNELS}
ORACLES = Path(__file__).parents[1] / "oracles"
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}

pytestmark = pytest.mark.usefixtures("instruction_set")


def error(found, wanted):
    assert found.shape == wanted.shape
    if not wanted.size:
        return 0.0
    return np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30)


def cast(arrays, dtype):
    return tuple(x if x is None or x.dtype.kind == "i" else x.astype(dtype) for x in arrays)


def check(name, reference, inputs, attributes, rng, constant=()):
    """Compare a kernel's values, and its gradients with differences of the reference."""
    before = [None if x is None else x.copy() for x in inputs]
    exact = reference(*inputs, **attributes)
    exact = exact if isinstance(exact, tuple) else (exact,)
    directions = [rng.standard_normal(y.shape) for y in exact]
    needs = [x is not None and i not in constant for i, x in enumerate(inputs)]
    for dtype, tolerance in TOLERANCE.items():
        typed = cast(inputs, dtype)
        outputs, residuals = K[name](*typed, **attributes)
        assert len(outputs) == len(exact)
        for y, wanted in zip(outputs, exact, strict=True):
            assert y.dtype == dtype
            assert error(y, wanted) < tolerance
        g = cast(directions, dtype)
        gradients = K[name + "_vjp"](g, needs, typed, residuals, **attributes)
        for i, x in enumerate(inputs):
            if not needs[i]:
                assert gradients[i] is None
                continue
            assert gradients[i].shape == x.shape
            assert gradients[i].dtype == dtype
            assert gradients[i].flags.writeable
            slope, size = difference(reference, inputs, attributes, i, directions, rng)
            found = (gradients[i] * slope[1]).sum(dtype=np.float64)
            bound = 1e-7 if dtype == "float64" else 2e-4  # central differences lose a third
            assert abs(found - slope[0]) <= bound * max(size, abs(slope[0]), 1e-3), i
    for x, old in zip(inputs, before, strict=True):
        assert x is None or np.array_equal(x, old)


def difference(reference, inputs, attributes, i, directions, rng):
    """Return (slope, direction) of sum(directions * outputs) along input i, and its scale."""
    along = rng.standard_normal(inputs[i].shape)
    step = 1e-5

    def value(offset):
        moved = [x + offset * along if j == i else x for j, x in enumerate(inputs)]
        outputs = reference(*moved, **attributes)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        parts = [g * y for g, y in zip(directions, outputs, strict=True)]
        return sum(part.sum() for part in parts), sum(np.abs(part).sum() for part in parts)

    (high, scale), (low, _) = value(step), value(-step)
    return ((high - low) / (2 * step), along), scale


# Selective scan


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def scan_reference(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, initial_state=None,
    delta_softplus=False, return_last_state=False,
):  # fmt: skip
    b, d, l = u.shape
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = np.logaddexp(delta, 0) if delta_softplus else delta

    def at(x, t):
        if x.ndim == 2:
            return x
        x = x if x.ndim == 4 else x[:, None]
        return np.repeat(x[..., t], d // x.shape[1], axis=1)

    h = np.zeros((b, d, A.shape[1])) if initial_state is None else initial_state
    y = np.zeros((b, d, l))
    for t in range(l):
        step = delta[:, :, t, None]
        h = np.exp(step * A) * h + step * at(B, t) * u[:, :, t, None]
        y[:, :, t] = (at(C, t) * h).sum(axis=-1)
    y = y if D is None else y + D[:, None] * u
    y = y if z is None else y * z * sigmoid(z)
    return (y, h) if return_last_state else y


def scan_inputs(rng, b, d, l, n, *, groups=None, fixed="", without=""):
    f = rng.standard_normal
    varying = (b, n, l) if groups is None else (b, groups, n, l)
    named = {
        "u": f((b, d, l)),
        "delta": f((b, d, l)),
        "A": -np.exp(0.5 * f((d, n))),
        "B": f((d, n) if "B" in fixed else varying),
        "C": f((d, n) if "C" in fixed else varying),
        "D": f(d),
        "z": f((b, d, l)),
        "bias": f(d),
        "state": f((b, d, n)),
    }
    return tuple(None if name in without.split() else x for name, x in named.items())


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((2, 5, 7, 3), {}),
        ((1, 17, 33, 16), {}),
        ((2, 16, 65, 8), {"without": "state D"}),
        ((3, 9, 4, 1), {"without": "z"}),
        ((1, 33, 32, 5), {"without": "bias state z D"}),
        ((2, 12, 40, 4), {"groups": 3}),
        ((2, 34, 5, 6), {"groups": 2}),
        ((1, 6, 5, 4), {"groups": 1}),
        ((1, 6, 9, 5), {"groups": 6}),
        ((2, 19, 35, 4), {"fixed": "BC"}),
        ((2, 7, 6, 16), {"fixed": "B"}),
        ((2, 7, 6, 3), {"fixed": "C", "groups": 7}),
        ((1, 130, 3, 4), {}),
        ((1, 1, 1, 1), {}),
    ],
)
@pytest.mark.parametrize("softplus", [True, False])
def test_selective_scan(rng, sizes, options, softplus):
    inputs = scan_inputs(rng, *sizes, **options)
    if not softplus:
        inputs = (inputs[0], np.abs(inputs[1]) * 0.5, *inputs[2:])
        inputs = tuple(None if i == 7 else x for i, x in enumerate(inputs))
    attributes = {"delta_softplus": softplus, "return_last_state": True}
    check("selective_scan", scan_reference, inputs, attributes, rng)


@pytest.mark.parametrize("sizes", [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 3, 4, 0)])
def test_selective_scan_of_nothing(rng, sizes):
    attributes = {"delta_softplus": True, "return_last_state": True}
    check("selective_scan", scan_reference, scan_inputs(rng, *sizes), attributes, rng)


@pytest.mark.parametrize("given", [(True, False), (False, True)])
def test_selective_scan_takes_either_cotangent(rng, given):
    inputs = scan_inputs(rng, 2, 5, 40, 3)
    attributes = {"delta_softplus": True, "return_last_state": True}
    outputs, residuals = K["selective_scan"](*inputs, **attributes)
    full = [np.cos(y) if use else None for y, use in zip(outputs, given, strict=True)]
    zeros = [np.zeros_like(y) if g is None else g for y, g in zip(outputs, full, strict=True)]
    needs = [True] * 9
    some = K["selective_scan_vjp"](full, needs, inputs, residuals, **attributes)
    same = K["selective_scan_vjp"](zeros, needs, inputs, residuals, **attributes)
    assert all(np.array_equal(x, y) for x, y in zip(some, same, strict=True))


def test_selective_scan_without_last_state_has_one_output(rng):
    inputs = scan_inputs(rng, 1, 4, 5, 2)
    (y,), residuals = K["selective_scan"](*inputs, delta_softplus=True)
    gradients = K["selective_scan_vjp"](
        (np.ones_like(y),), [True] + [False] * 8, inputs, residuals, delta_softplus=True
    )
    assert [x is None for x in gradients] == [False] + [True] * 8


def test_selective_scan_takes_any_layout(rng):
    inputs = scan_inputs(rng, 2, 10, 36, 4)
    attributes = {"delta_softplus": True, "return_last_state": True}
    (y, h), residuals = K["selective_scan"](*inputs, **attributes)
    g = (rng.standard_normal(y.shape), rng.standard_normal(h.shape))
    wanted = K["selective_scan_vjp"](g, [True] * 9, inputs, residuals, **attributes)

    def awkward(x):
        """Return x as every second element, backward, of transposed memory full of nan."""
        memory = np.full([2 * size + 1 for size in reversed(x.shape)], np.nan)
        view = memory[tuple(slice(None, 0, -2) for _ in x.shape)].T
        view[...] = x
        return view

    odd = tuple(awkward(x) for x in inputs)
    (y_odd, h_odd), residuals = K["selective_scan"](*odd, **attributes)
    assert np.array_equal(y, y_odd)
    assert np.array_equal(h, h_odd)
    found = K["selective_scan_vjp"](
        tuple(awkward(x) for x in g), [True] * 9, odd, residuals, **attributes
    )
    assert all(np.array_equal(x, w) for x, w in zip(found, wanted, strict=True))


def test_selective_scan_state_carries_on(rng):
    u, delta, A, B, C, D, z, bias, state = scan_inputs(rng, 2, 9, 50, 4)
    attributes = {"delta_softplus": True, "return_last_state": True}
    (y, last), _ = K["selective_scan"](u, delta, A, B, C, D, z, bias, state, **attributes)
    pieces = []
    for at in (slice(0, 33), slice(33, 34), slice(34, 50)):
        (piece, state), _ = K["selective_scan"](
            *(x[..., at] if x.ndim == 3 else x for x in (u, delta, A, B, C, D, z, bias)),
            state,
            **attributes,
        )
        pieces.append(piece)
    assert error(np.concatenate(pieces, axis=-1), y) < 1e-14
    assert error(state, last) < 1e-14


@pytest.mark.parametrize("name", ["basic", "fixedBC", "grouped"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_selective_scan_oracle(name, dtype):
    oracle = np.load(ORACLES / f"selective_scan_{name}.npz")
    names = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"]
    inputs = [oracle[k].astype(dtype) if k in oracle else None for k in names] + [None]
    attributes = {"delta_softplus": bool(oracle["delta_softplus"]), "return_last_state": True}
    (y, h), residuals = K["selective_scan"](*inputs, **attributes)
    assert error(y, oracle["out"]) < TOLERANCE[dtype]
    assert error(h, oracle["last_state"]) < TOLERANCE[dtype]
    g = (oracle["gout"].astype(dtype), None)
    gradients = K["selective_scan_vjp"](g, [True] * 9, inputs, residuals, **attributes)
    for found, key in zip(gradients, names, strict=False):
        if found is not None:
            assert error(found, oracle[f"grad/{key}"]) < TOLERANCE[dtype], key


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_selective_state_update_oracle(dtype):
    stored = np.load(ORACLES / "selective_state_update.npz")
    oracle = {name: stored[name].astype(dtype) for name in stored.files}
    state = oracle["state_in"]
    for t in range(len(oracle["x"])):
        x, dt, z, B, C = (oracle[k][t][..., None] for k in ("x", "dt", "z", "B", "C"))
        (y, state), _ = K["selective_scan"](
            x, dt, oracle["A"], B, C, oracle["D"], z, oracle["dt_bias"], state,
            delta_softplus=True, return_last_state=True,
        )  # fmt: skip
        assert error(y[..., 0], oracle["out"][t]) < TOLERANCE[dtype]
        assert error(state, oracle["states"][t]) < TOLERANCE[dtype]


def exponential(x):
    """Return exp(x) through the scan: the decay of a state that starts as 1."""
    column = x.reshape(1, -1, 1)
    one = np.ones_like(column)
    (y,), _ = K["selective_scan"](
        0 * one, column, one[0], one[:, :1], one[:, :1], initial_state=one
    )
    return y.reshape(-1)


def softplus(x):
    """Return log(1 + exp(x)) through the scan: the drive of a state that does not decay."""
    column = x.reshape(1, -1, 1)
    one = np.ones_like(column)
    (y,), _ = K["selective_scan"](
        one, column, 0 * one[0], one[:, :1], one[:, :1], delta_softplus=True
    )
    return y.reshape(-1)


def silu(x):
    """Return x sigmoid(x) through the scan: the skip, gated."""
    column = x.reshape(1, -1, 1)
    nothing = np.zeros((x.size, 0), x.dtype)
    (y,), _ = K["selective_scan"](
        np.ones_like(column), column, nothing, nothing, nothing, np.ones_like(x), column
    )
    return y.reshape(-1)


def ulps(found, wanted):
    """Return the largest error in units of the last place of the exact value."""
    rounded = wanted.astype(found.dtype)
    assert np.array_equal(np.isfinite(rounded), np.isfinite(found))
    finite = np.isfinite(rounded)
    unit = np.spacing(np.abs(rounded[finite])).astype(wanted.dtype)
    return float((np.abs(found[finite].astype(wanted.dtype) - wanted[finite]) / unit).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementary_functions_are_accurate_to_ulps(rng, dtype):
    end = 85.0 if dtype == "float32" else 700.0  # beyond, exp(-x) is denormal
    x = np.concatenate([rng.uniform(-end, end, 4001), rng.uniform(-3, 3, 4001)]).astype(dtype)
    wide = x.astype(np.longdouble)
    # The scan works in powers of two: 1 / ln(2) is rounded, so about |x| ulp more are lost.
    small = np.abs(x) < 2
    with np.errstate(under="ignore"):
        assert ulps(exponential(x)[small], np.exp(wide[small])) < 4
        assert ulps(softplus(x), np.logaddexp(wide, 0)) < 3
        assert ulps(silu(x), wide / (1 + np.exp(-wide))) < 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponential_at_its_ends(dtype):
    x = np.array([-1e30, -1e4, -0.0, 0.0, 1e4, 1e30, np.nan], dtype)
    # One at a time: a block takes the long way round if any of its channels needs it.
    found = np.array([exponential(x[i : i + 1])[0] for i in range(x.size)])
    assert np.array_equal(found, [0, 0, 1, 1, np.inf, np.inf, np.nan], equal_nan=True)
    denormal = np.array([-100 if dtype == "float32" else -740], dtype)
    assert 0 < exponential(denormal)[0] < np.finfo(dtype).tiny


def test_an_odd_channel_leaves_its_neighbours_alone(rng):
    inputs = scan_inputs(rng, 1, 16, 40, 4, without="state")
    (y,), _ = K["selective_scan"](*inputs, delta_softplus=True)
    inputs[0][0, 3, 5] = np.nan
    inputs[1][0, 6, 9] = 1e6
    inputs[1][0, 9, 4] = np.nan
    with np.errstate(all="ignore"):
        (odd,), _ = K["selective_scan"](*inputs, delta_softplus=True)
    others = [i for i in range(16) if i not in (3, 6, 9)]
    assert error(odd[0, others], y[0, others]) < 1e-13
    assert np.isnan(odd[0, 3, 5:]).all()
    assert np.isfinite(odd[0, 6]).all()
    assert np.isnan(odd[0, 9, 4:]).all()
    assert np.isfinite(odd[0, 9, :4]).all()


# Causal convolution


def conv_reference(x, weight, bias=None, initial_state=None, activation=None):
    b, d, l = x.shape
    k = weight.shape[1]
    past = np.zeros((b, d, k - 1)) if initial_state is None else initial_state
    padded = np.concatenate([past, x], axis=-1)
    p = np.zeros((b, d, l))
    for t in range(l):
        p[..., t] = (padded[..., t : t + k] * weight).sum(axis=-1)
    p = p if bias is None else p + bias[:, None]
    return p * sigmoid(p) if activation == "silu" else p


def with_contiguous_channels(x):
    return None if x is None else np.ascontiguousarray(x.mT).mT


def conv_inputs(rng, sizes, without=(), time="contiguous"):
    b, d, l, k = sizes
    x = rng.standard_normal((b, d, l))
    return (
        x if time == "contiguous" else with_contiguous_channels(x),
        rng.standard_normal((d, k)),
        None if "bias" in without else rng.standard_normal(d),
        None if "past" in without else rng.standard_normal((b, d, k - 1)),
    )


@pytest.mark.parametrize("time", ["contiguous", "in rows"])
@pytest.mark.parametrize("activation", ["silu", None])
@pytest.mark.parametrize(
    ("sizes", "without"),
    [
        ((2, 5, 9, 4), ()),
        ((1, 17, 130, 4), ("past",)),
        ((2, 8, 260, 3), ("bias",)),
        ((1, 3, 67, 2), ()),
        ((3, 33, 2, 5), ()),
        ((2, 3, 6, 1), ()),
        ((1, 2, 1050, 4), ()),
        ((1, 2, 2048, 7), ("past", "bias")),
        ((2, 1, 5, 4), ()),
        ((1, 3, 1, 4), ()),
        ((0, 3, 6, 4), ()),
        ((2, 0, 6, 4), ()),
        ((2, 3, 0, 4), ()),
    ],
)
def test_causal_conv1d(rng, sizes, without, activation, time):
    inputs = conv_inputs(rng, sizes, without, time)
    check("causal_conv1d", conv_reference, inputs, {"activation": activation}, rng)


@pytest.mark.parametrize("k", range(1, 8))
def test_causal_conv1d_of_any_length(rng, k):
    for l in (*range(1, 40), 1023, 1024, 1025, 1031):
        inputs = conv_inputs(rng, (1, 2, l, k))
        (y,), _ = K["causal_conv1d"](*inputs, activation="silu")
        assert error(y, conv_reference(*inputs, activation="silu")) < 1e-13
        g = rng.standard_normal(y.shape)
        x, *others = inputs
        there = K["causal_conv1d_vjp"]((g,), [True] * 4, inputs, (), activation="silu")
        inputs = (with_contiguous_channels(x), *others)
        back = K["causal_conv1d_vjp"]((g,), [True] * 4, inputs, (), activation="silu")
        for found, wanted in zip(there, back, strict=True):
            assert error(found, wanted) < 1e-13


def test_more_taps_than_steps_in_a_block(rng):
    for l in (3, 1040, 2500):
        inputs = conv_inputs(rng, (1, 2, l, 1100))
        check("causal_conv1d", conv_reference, inputs, {"activation": None}, rng)


def test_causal_conv1d_lies_in_memory_as_x_does(rng):
    inputs = conv_inputs(rng, (2, 20, 30, 4))
    g = rng.standard_normal((2, 20, 30))
    for same, other in ((np.asarray, with_contiguous_channels), (with_contiguous_channels,) * 2):
        x = same(inputs[0])
        (y,), _ = K["causal_conv1d"](x, *inputs[1:])
        results = [
            K["causal_conv1d_vjp"]((h,), [True] * 4, (x, *inputs[1:]), ())
            for h in (g, other(g), np.repeat(g, 2, axis=2)[..., ::2])
        ]
        assert y.strides == x.strides == results[0][0].strides
        assert bits(results[0]) == bits(results[1]) == bits(results[2])


def test_causal_conv1d_of_a_part_of_an_array(rng):
    whole = rng.standard_normal((3, 9, 50))
    x, others = whole[1:, 2:7, 3:40], conv_inputs(rng, (2, 5, 37, 4))[1:]
    check("causal_conv1d", conv_reference, (x, *others), {"activation": "silu"}, rng)
    one = np.broadcast_to(whole[:1, :1, :20], (2, 5, 20))
    (y,), _ = K["causal_conv1d"](one, *others)
    assert error(y, conv_reference(one, *others)) < 1e-13


@pytest.mark.parametrize("time", ["contiguous", "in rows"])
@pytest.mark.parametrize("l", [5, 37, 1030])
def test_nan_and_inf_reach_only_what_depends_on_them(rng, l, time):
    b, d, k = 1, 3, 4
    x, weight, *_ = conv_inputs(rng, (b, d, l, k), time=time)
    x[0, 0, 1], x[0, 1, l - 1] = np.nan, np.inf
    (y,), _ = K["causal_conv1d"](x, weight)
    finite = np.isfinite(y[0])
    assert np.array_equal(np.flatnonzero(~finite[0]), np.arange(1, min(1 + k, l)))
    assert np.array_equal(np.flatnonzero(~finite[1]), [l - 1])
    assert finite[2].all()
    g = rng.standard_normal(y.shape)
    dx, dweight, *_ = K["causal_conv1d_vjp"]((g,), [True] * 4, (x, weight, None, None), ())
    assert np.isfinite(dx).all()
    # The last step is an input of the last tap alone.
    assert np.array_equal(np.isfinite(dweight), [[False] * 4, [True] * 3 + [False], [True] * 4])
    g[0, 2, l - 1] = np.nan
    dx, dweight, *_ = K["causal_conv1d_vjp"]((g,), [True] * 4, (x, weight, None, None), ())
    assert np.array_equal(np.flatnonzero(np.isnan(dx[0, 2])), np.arange(l - k, l))
    assert np.isfinite(dx[0, :2]).all()


# Normalisation


def norm_reference(x, weight, residual=None, eps=1e-6):
    s = x if residual is None else x + residual
    y = s / np.sqrt((s**2).mean(axis=-1, keepdims=True) + eps) * weight
    return y if residual is None else (y, s)


@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 17), (1,), (70, 5), (600, 3), (0, 4), (2, 64)])
def test_rms_norm(rng, shape, with_residual):
    residual = rng.standard_normal(shape) if with_residual else None
    inputs = (rng.standard_normal(shape), rng.standard_normal(shape[-1]), residual)
    check("rms_norm", norm_reference, inputs, {"eps": 1e-3}, rng)


def test_rms_norm_takes_either_cotangent(rng):
    x, residual, g = rng.standard_normal((3, 3, 9))
    weight = rng.standard_normal(9)
    _, residuals = K["rms_norm"](x, weight, residual, eps=1e-6)
    dx, dweight, dresidual = K["rms_norm_vjp"](
        (None, g), (True, True, True), (x, weight, residual), residuals, eps=1e-6
    )
    assert np.array_equal(dx, g)
    assert np.array_equal(dresidual, g)
    assert not dweight.any()
    assert dresidual is dx  # one array for both: see dispatch


# Cross entropy


def loss_reference(logits, target, ignore_index=None, label_smoothing=0.0, reduction="mean"):
    v = logits.shape[-1]
    used = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
    q = np.full(logits.shape, label_smoothing / v)
    goals = np.where(used, target, 0)[..., None]
    np.put_along_axis(q, goals, np.take_along_axis(q, goals, -1) + 1 - label_smoothing, -1)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = np.where(used, -(q * logp).sum(axis=-1), 0)
    if reduction == "none":
        return losses
    return np.asarray(losses.sum() / (max(used.sum(), 1) if reduction == "mean" else 1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore_index", [None, 1, -100])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 16), (33,), (0, 4), (4, 2)])
def test_cross_entropy(rng, shape, ignore_index, smoothing, reduction):
    target = rng.integers(0, shape[-1], shape[:-1])
    if ignore_index == -100:
        target = np.where(rng.random(shape[:-1]) < 0.5, -100, target)
    attributes = {
        "ignore_index": ignore_index, "label_smoothing": smoothing, "reduction": reduction,
    }  # fmt: skip
    inputs = (rng.standard_normal(shape), target)
    check("cross_entropy", loss_reference, inputs, attributes, rng, constant=(1,))


def test_cross_entropy_of_large_logits():
    logits = np.array([[1e4, 0, -1e4], [-np.inf, 0, 0]], np.float32)
    (losses,), residuals = K["cross_entropy"](logits, np.array([1, 2]), reduction="none")
    assert np.allclose(losses, [1e4, np.log(2)], rtol=1e-6)
    g = np.ones(2, np.float32)
    dlogits, _ = K["cross_entropy_vjp"](
        (g,), (True, False), (logits, np.array([1, 2])), residuals, reduction="none"
    )
    assert np.allclose(dlogits, [[1, -1, 0], [0, 0.5, -0.5]], atol=1e-6)


@pytest.mark.parametrize("bad", [-1, 3])
def test_cross_entropy_never_reads_past_a_row(bad):
    with pytest.raises(IndexError, match="no class"):
        K["cross_entropy"](np.zeros((2, 3)), np.array([0, bad]))


# Threads


def bits(results):
    return [None if x is None else x.tobytes() for x in results]


@pytest.mark.parametrize("groups", [None, 2])
def test_equal_bits_for_any_number_of_threads(three_threads, rng, groups):
    def everything():
        found = []
        for b in (1, 5):
            inputs = cast(scan_inputs(np.random.default_rng(b), b, 260, 70, 4, groups=groups), "f4")
            attributes = {"delta_softplus": True, "return_last_state": True}
            outputs, residuals = K["selective_scan"](*inputs, **attributes)
            found += outputs
            found += K["selective_scan_vjp"](outputs, [True] * 9, inputs, residuals, **attributes)
        x, weight = inputs[0], inputs[2]
        for same in (np.ascontiguousarray, with_contiguous_channels):
            conv = (same(x), weight, None, None)
            (y,), _ = K["causal_conv1d"](*conv, activation="silu")
            found += [y, *K["causal_conv1d_vjp"]((y,), [True] * 4, conv, (), activation="silu")]
        tall = np.ascontiguousarray(x.mT)
        (y,), residuals = K["rms_norm"](tall, inputs[5], None, eps=1e-6)
        found += K["rms_norm_vjp"]((y,), [True] * 3, (tall, inputs[5], None), residuals, eps=1e-6)
        target = np.zeros(tall.shape[:-1], int)
        (loss,), residuals = K["cross_entropy"](tall, target)
        found += [loss, *K["cross_entropy_vjp"]((loss,), (True, False), (tall, target), residuals)]
        return bits(found)

    results = []
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        results.append(everything())
    assert results[0] == results[1] == results[2]
