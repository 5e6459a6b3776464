"""Every kernel of every ``.cu`` file: small calls that launch it, and what compilers are told.

`SOURCES` is the one table from which test_kernels.py makes its tests: three orders of threads,
sanitizers, removed barriers, and NVIDIA's compiler. Calls are small, but blocks have more than one
warp, loops go round twice and nothing divides evenly: a barrier is missed only there. A call is of
Tensors, and its goal what definitions give on the device "reference", which shares no code with
kernels. This file is run by itself under sanitizers, with a function `check_FILE` a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

import helixml as hx
from helixml import dtypes
from helixml.backends import registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.backends.cuda.kernels import attention, linear_scan, parts, selective_scan
from helixml.backends.cuda.launch import Program, parameters, read
from helixml.device import Device
from helixml.testing import cuemu

F32 = dtypes.float32


@dataclass(frozen=True)
class Case:
    """A call of ``function`` with tensors, and gradients of all floats unless it is told not to.

    Attributes
    ----------
    kernels : names of those that it launches, of the file that it stands under.
    operands : arrays, or shapes of random numbers.
    settings : modules and what is set in them meanwhile, so that little work is cut up as much is.
    """

    kernels: str
    function: Callable[..., Any]
    operands: tuple[Any, ...]
    pulls: bool = True
    settings: tuple[tuple[Any, dict[str, Any]], ...] = ()

    def results(self, device: str) -> list[np.ndarray]:
        """Return values and gradients."""
        rng = np.random.default_rng(0)

        def made(x: Any) -> Any:
            return rng.uniform(-1, 1, x).astype(np.float32) if isinstance(x, tuple) else x

        hosts = [made(x) for x in self.operands]
        pulled = [self.pulls and x.dtype == F32 for x in hosts]
        xs = [
            hx.tensor(x, device=device, requires_grad=p) for x, p in zip(hosts, pulled, strict=True)
        ]
        ys = self.function(*xs)
        ys = list(ys) if isinstance(ys, tuple) else [ys]
        if any(pulled):
            ys += hx.autograd.gradients(
                ys,
                [x for x, p in zip(xs, pulled, strict=True) if p],
                cotangents=[hx.tensor(made(y.shape), device=device) for y in ys],
            )
        return [y.detach().to("cpu").numpy() for y in ys]


@dataclass(frozen=True)
class Source:
    """What is known of a file.

    Attributes
    ----------
    cases : calls that together launch all of its kernels.
    registers : that a thread takes, at most, of any kernel, dtype and architecture.
    spilled : bytes of it that are in memory instead, at most: where a multiprocessor is to hold
        more blocks than registers are for, some numbers that are read once a tile may wait there.
    variants : what the launcher may define for a dtype, as far as it changes the code.
    needless : barriers that nobody misses, by number in the file's text, and why.
    """

    cases: Sequence[Case]
    registers: int
    spilled: int = 0
    variants: Callable[[np.dtype], Iterable[dict[str, Any]]] = lambda dtype: [{}]
    needless: dict[int, str] = field(default_factory=dict)


def case(kernels: str, function: Callable[..., Any], *operands: Any, **options: Any) -> Case:
    return Case(kernels, function, operands, **options)


def kernels_of(file: str) -> set[str]:
    return set(parameters(read(f"{file}.cu")))


@contextmanager
def prepared(call: Case) -> Iterator[None]:
    """Have a fresh emulator serve the device "cuda", with the settings of a call."""
    registry.register("cuda", lambda: CudaBackend(cuemu.cupy(), Device("cuda")))
    try:
        with ExitStack() as changes:
            for module, values in call.settings:
                changes.enter_context(patch.multiple(module, **values))
            yield
    finally:
        registry.unregister("cuda")


def check(file: str) -> None:
    """Run the calls of a file; each is right, and launches the kernels that it names."""
    launched: set[str] = set()
    run = Program.launch

    def launch(program: Program, name: str, *arguments: Any, **keywords: Any) -> None:
        if program.file == f"{file}.cu":
            launched.add(name)
        run(program, name, *arguments, **keywords)

    for call in SOURCES[file].cases:
        launched.clear()
        with prepared(call), patch.object(Program, "launch", launch):
            found = call.results("cuda")
        assert launched == set(call.kernels.split()), (file, launched)
        for y, goal in zip(found, call.results("reference"), strict=True):
            np.testing.assert_allclose(y, goal, rtol=2e-4, atol=2e-4)


def bits(file: str) -> list[bytes]:
    """Return the bits of all that the calls of a file result in."""
    found = []
    for call in SOURCES[file].cases:
        with prepared(call):
            found += [y.tobytes() for y in call.results("cuda")]
    return found


# How rows are walked: by warps with single entries, by blocks in packs, anew in each pass.
ROWS = [
    {"WIDTH": 1, "ITEMS": 4, "TEAM_IS_WARP": 1},
    {"WIDTH": 1, "ITEMS": 8, "TEAM_IS_WARP": 0},
    {"WIDTH": "PACK", "ITEMS": "(64 / (int)sizeof(ACCUM) / PACK)", "TEAM_IS_WARP": 0},
    {"WIDTH": "PACK", "ITEMS": 0, "TEAM_IS_WARP": 0},
]
WIDE = (dtypes.float32, dtypes.float64)


def walks(dtype):
    for x, y in ((0, 1), (2, 3)):
        yield {"X_WALK": x, "Y_WALK": y, "PACKED": 1, "INDEX": "unsigned"}


def moves(dtype):
    yield {"UNIT": 16, "LANES": 32, "WIDTH": "PACK"}
    yield {"UNIT": 1, "LANES": 1, "WIDTH": 1}


def sums(dtype):
    return [{"PACKED": packed, "TEAM_IS_WARP": warp} for packed, warp in ((0, 0), (1, 0), (1, 1))]


def convolutions(dtype):
    for time, run in ((0, 32), (1, 4)):
        yield {"TIME": time, "SILU": 1, "TAPS": 4, "THREADS": 128, "RUN": run}


def scans(dtype):
    for states in (4, 16, 256):
        u, A = np.empty((2, 64, 64), dtype), np.empty((64, states), dtype)
        B = np.empty((2, states, 64), dtype)
        for x in (u, u.transpose(0, 2, 1)):  # in either layout
            yield selective_scan._Plan(x, A, B, B, True).constants


def recurrences(dtype):
    for time in (0, 1):
        for number in (0, 1) if dtype in WIDE else (0,):
            scan = {"REVERSE": 1, "COMPLEX": number, "FIXED": 0, "THREADS": 128, "ITEMS": 4}
            yield {"TIME": time, **scan}


def heads(dtype):
    for name in ("attention", "pull_queries", "pull_keys"):
        for steps in (False, True):
            yield attention._constants(name, 64, 64, np.dtype(dtype), steps)


def transforms(dtype):
    for log in (12, 12 if dtype == dtypes.float64 else 14):
        yield {"LOG": log, "THREADS": 512 if log == 14 else 256}


def stored(dtype):
    for kind in (0, 1, 2) if dtype in WIDE else (0, 2):
        yield {"KIND": kind, "PACKED": 1, "VECTORS": 4, "THREADS": 128}


def tiles(dtype):
    return [{"OWN": own} for own in ((1, 2) if dtype == dtypes.float64 else (1, 2, 4))]


def scan_attention(x, norm, weight, A, out, D, bias):
    return hx.scan_attention(x, norm, weight, -hx.abs(A), out, D, bias, heads=2, key_heads=1)


def dual(x, dt, A, B, C, D, state):
    options = {"chunk_size": 8, "return_last_state": True}
    return hx.ssd(x, hx.abs(dt), -hx.abs(A), B, C, D, state, **options)


def exponentials(weights, rates):
    return hx.exponential_sum(weights, -hx.abs(rates), length=1100)


def adamw(p, g, m, v):
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "weight_decay": 0.1}
    hx.adamw_many_([p, p2 := p[:1] + 1], [g, g[:1]], [m, m2 := m[:1] + 1], [v**2, v2 := v[:1] ** 2],
        **options, step=3)  # fmt: skip
    return p, p2, m, m2, v2


def sgd(p, g, v, momentum=0.0):
    moving = [v] if momentum else [None]
    hx.sgd_many_([p], [g], moving, lr=0.1, momentum=momentum, nesterov=True, weight_decay=0.1)
    return p, v


def lion(p, g, m):
    hx.lion_many_([p], [g], [m], lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.1)
    return p, m


def scaled(x):
    hx.scale_many_([x], 0.3)
    return x


def scan(u, delta, A, B, C, D, z, bias, state):
    return hx.selective_scan(u, delta, -hx.abs(A), B, C, D, z, bias, True, state, True)


def scan_of_layers(inputs, delta, A, selected, D, bias):
    """Rows of z, B and C are parts of longer ones."""
    n = A.shape[1]
    u, z = hx.split(inputs, (len(A), len(A)), axis=2)
    _, B, C = hx.split(selected, (1, n, n), axis=2)
    return scan(u.mT, delta.mT, A, B.mT, C.mT, D, z.mT, bias, None)


def conv(x, weight, bias, past):
    return hx.causal_conv1d(x, weight, bias, "silu", past)


def conv_of_layers(x, weight):
    return conv(hx.split(x, (len(weight), 2), axis=2)[0].mT, weight, None, None)


TARGETS = np.array([1, 400, 7, 3, 90])
NO_BLOCK_SUMS = {0: "warps sum here, no blocks", 1: "warps sum here, no blocks"}
NOT_CALLED = {0: "sums of blocks are included, not called", 1: "as the one before"}
ONE_BLOCK_SUM = {1: "it parts a block's sums of one kind, and a block has one of each"}
SEGMENTS = ((selective_scan, {"_FEWEST_TILES": 2}),)
STEPS = ((linear_scan, {"_FEWEST_STEPS": {True: 600, False: 64}}),)
ONE_BLOCK = ((parts, {"_MOST_BLOCKS": 1}),)
ENTRIES = (3, 50)  # no whole pack of 8

SOURCES: dict[str, Source] = {
    "attention": Source(
        [
            case(
                "attention pulled_means pull_queries pull_keys",
                lambda q, k, v: hx.attention(q, k, v, causal=True, offset=50),
                *((1, 2, 20, 5), (1, 1, 70, 5), (1, 1, 70, 4)),
            ),
            case(
                "attention pulled_means pull_queries pull_keys",
                scan_attention,
                *((1, 40, 6), (6,), (36, 6), (8, 2), (4, 8), (8,), (8,)),
                settings=ONE_BLOCK,
            ),
        ],
        registers=128,
        spilled=40,
        variants=heads,
    ),
    "binary": Source(
        [
            case("add", lambda x, y: x + y, (3, 8), (8,)),
            case("add subtract multiply", lambda x, y: (x - y) * x, (3, 4, 8), (3, 1, 1)),
            case("add multiply divide chain quotient", lambda x: (hx.sqrt(x * x) / 2) ** 1, (2, 7)),
        ],
        registers=48,
        variants=walks,
    ),
    "causal_conv1d": Source(
        [
            case("conv conv_vjp", conv, (1, 2, 600), (2, 4), (2,), (1, 2, 3), settings=ONE_BLOCK),
            case("conv conv_vjp", conv_of_layers, (2, 40, 5), (3, 4), settings=ONE_BLOCK),
        ],
        registers=112,
        variants=convolutions,
    ),
    "column_sums": Source([case("column_sums", hx.rms_norm, (10, 131), (131,))], registers=32),
    "cross_entropy": Source(
        [
            case(
                "cross_entropy total count_targets scale_prepared",
                lambda x, t: hx.cross_entropy(x, t, ignore_index=7, label_smoothing=0.1),
                *((5, 520), TARGETS),
            ),
            case(
                "cross_entropy cross_entropy_vjp",
                lambda x, t: hx.cross_entropy(x, t, reduction="none"),
                *((5, 520), TARGETS),
            ),
        ],
        registers=104,
        variants=lambda dtype: ROWS,
    ),
    "exact": Source(
        [
            case("floor_divide modulo", lambda x, y: x // y + x % y, (3, 8), (8,), pulls=False),
            case("modulo", lambda x: x % 0.3, (2, 7), pulls=False),
            case("next_after", hx.nextafter, (3, 4, 8), (3, 1, 1), pulls=False),
        ],
        registers=64,
        variants=walks,
    ),
    "exponential_sum": Source(
        [case("exponential_sum pull_moments pull_terms", exponentials, (1, 40, 2), (1, 40, 2))],
        needless=NOT_CALLED,
        registers=128,
    ),
    "fft_conv": Source(
        [
            case(
                "spectrum conv conv_vjp",
                hx.fft_conv,
                *((3, 2, 300), (2, 200), (2,), (3, 2, 300)),
                settings=ONE_BLOCK,
            ),
            case("spectrum conv conv_vjp", hx.fft_conv, (1, 1, 40), (1, 20), settings=ONE_BLOCK),
        ],
        registers=200,
        variants=transforms,
    ),
    "gather": Source(
        [
            case(
                "take scatter_add scatter_edges",
                lambda x, ids: hx.take(x, ids, axis=0),
                *((5, 42), np.arange(70) % 7 // 2),
            ),
            case(
                "concat", lambda x, y, z: hx.concat([x, y, z], axis=1), *((3, n) for n in (8, 4, 5))
            ),
        ],
        registers=80,
        variants=moves,
    ),
    "linear_scan": Source(
        [
            case("segment_ends carry scan", hx.linear_scan, (2, 1300), (2, 1300), settings=STEPS),
            case("scan", lambda a, b: hx.linear_scan(a.mT, b.mT), (2, 20, 3), (2, 20, 3)),
        ],
        registers=80,
        variants=recurrences,
    ),
    "mamba_step": Source(
        [
            case(
                "enter advance",
                hx.mamba_step,
                *((2, 10), (2, 20, 3), (2, 20, 4), (40, 10), (20, 4), (11, 20), (20, 3)),
                *((20, 4), (20,), (10, 20), (40,), (20,), (20,), (10,)),
                pulls=False,
            )
        ],
        registers=120,
        variants=stored,
        needless=NO_BLOCK_SUMS,
    ),
    "map": Source(
        [
            case("sigmoid error_function", lambda x: hx.sigmoid(x) + hx.erf(x), ENTRIES),
            case("silu silu_vjp", hx.silu, ENTRIES),
            case("gelu gelu_vjp", hx.gelu, ENTRIES),
            case("softplus softplus_vjp", hx.softplus, ENTRIES),
            case("silu_gate silu_gate_vjp", hx.silu_gate, ENTRIES, ENTRIES),
            case("gelu_gate gelu_gate_vjp", hx.gelu_gate, ENTRIES, ENTRIES),
        ],
        registers=144,
    ),
    "norm": Source(
        [
            case("rms_norm rms_norm_vjp", hx.rms_norm, (10, 131), (131,)),
            case(
                "layer_norm layer_norm_vjp",
                lambda x, w, b, r: hx.layer_norm(x, w, b, residual=r),
                *((10, 131), (131,), (131,), (10, 131)),
            ),
        ],
        registers=128,
        variants=lambda dtype: ROWS,
    ),
    "parts": Source(
        [case("sum_parts", conv, (2, 9, 5), (9, 4), (9,), (2, 9, 3), settings=ONE_BLOCK)],
        registers=40,
    ),
    "philox": Source(
        [
            case(
                "philox",
                lambda x: hx.random.Rng(3).uniform((5, 7), device=x.device),
                (1,),
                pulls=False,
            ),
            case("drop", lambda x: hx.random.dropout(x, 0.4, rng=hx.random.Rng(1)), ENTRIES),
        ],
        registers=32,
    ),
    "selective_scan": Source(
        [
            case(
                "segment_ends carry scan segment_starts scan_vjp",
                scan,
                *((1, 5, 70), (1, 5, 70), (5, 8), (1, 8, 70), (5, 8), (5,), (1, 5, 70), (5,)),
                (1, 5, 8),
                settings=SEGMENTS + ONE_BLOCK,
            ),
            case(
                "scan scan_vjp",
                scan_of_layers,
                *((2, 40, 10), (2, 40, 5), (5, 8), (2, 40, 17), (5,), (5,)),
                settings=ONE_BLOCK,
            ),
            case(
                "scan scan_vjp",
                lambda u, A, B: hx.selective_scan(u, u * u, -hx.abs(A), B, B),
                *((1, 5, 40), (5, 8), (5, 8)),
                settings=ONE_BLOCK,
            ),
        ],
        registers=255,
        spilled=16,
        variants=scans,
    ),
    "softmax": Source(
        [
            case("softmax softmax_vjp", hx.softmax, (3, 520)),
            case("log_softmax log_softmax_vjp", hx.log_softmax, (3, 520)),
        ],
        needless=ONE_BLOCK_SUM,
        registers=80,
        variants=lambda dtype: ROWS,
    ),
    "state_space_dual": Source(
        [
            case(
                "chunk_sums pass_states chunk_outputs pull_channels pull_states pull_rates",
                dual,
                *((1, 13, 2, 17), (1, 13, 2), (2,), (1, 13, 1, 17), (1, 13, 1, 17), (2,)),
                (1, 2, 17, 17),
                settings=ONE_BLOCK,
            ),
        ],
        registers=255,
        variants=tiles,
    ),
    "stored_linear": Source(
        [
            case(
                "stored_linear",
                lambda x, w, b: hx.stored_linear(x, w, None, b),
                (3, 40),
                (9, 40),
                (9,),
                pulls=False,
            ),
        ],
        registers=80,
        variants=stored,
        needless=NO_BLOCK_SUMS,
    ),
    "sums": Source(
        [
            case("sum_columns sum_parts", lambda x: hx.sum(x, axis=0), (300, 40)),
            case("sum_rows sum_parts", lambda x: hx.sum(x, axis=1), (2, 20_000)),
        ],
        needless=ONE_BLOCK_SUM,
        registers=56,
        variants=sums,
    ),
    "update": Source(
        [
            case("adamw", adamw, *(ENTRIES,) * 4, pulls=False),
            case("sgd", sgd, *(ENTRIES,) * 3, pulls=False),
            case("sgd_momentum", partial(sgd, momentum=0.9), *(ENTRIES,) * 3, pulls=False),
            case("lion", lion, *(ENTRIES,) * 3, pulls=False),
            case("scale", scaled, ENTRIES, pulls=False),
            case("squares root", lambda x, y: hx.norm_many([x, y]), (40_000,), (3,), pulls=False),
        ],
        needless=ONE_BLOCK_SUM,
        registers=56,
    ),
}

globals().update({f"check_{file}": partial(check, file) for file in SOURCES})
