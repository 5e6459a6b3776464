"""NVIDIA's compiler takes every kernel, and keeps what it computes with in registers."""

import pytest

from helixml import dtypes
from helixml.backends.cuda.launch import options, read
from helixml.errors import MissingDependencyError
from helixml.testing.cuemu import nvrtc

# How rows are walked: by warps with single entries, by blocks in packs, anew in each pass.
ROWS = [
    {"WIDTH": 1, "ITEMS": 4, "TEAM_IS_WARP": 1},
    {"WIDTH": 1, "ITEMS": 8, "TEAM_IS_WARP": 0},
    {"WIDTH": "PACK", "ITEMS": "(64 / (int)sizeof(ACCUM) / PACK)", "TEAM_IS_WARP": 0},
    {"WIDTH": "PACK", "ITEMS": 0, "TEAM_IS_WARP": 0},
]
SUMS = [{"PACKED": packed, "TEAM_IS_WARP": warp} for packed in (0, 1) for warp in (0, 1)]
WALKS = [{"X_WALK": x, "Y_WALK": y, "PACKED": 1, "INDEX": "unsigned"} for x, y in ((0, 1), (2, 3))]
MOVES = [{"UNIT": 16, "LANES": 32, "WIDTH": "PACK"}, {"UNIT": 1, "LANES": 1, "WIDTH": 1}]
# Files, and what the launcher defines
FILES = [
    *((file, constants) for file in ("norm", "softmax", "cross_entropy") for constants in ROWS),
    *(("sums", constants) for constants in SUMS),
    *(("binary", constants) for constants in WALKS),
    *(("gather", constants) for constants in MOVES),
    *((file, {}) for file in ("map", "update", "philox", "column_sums")),
]


def costs(file, dtype, constants, architecture):
    """Compile a file; skip where there is no compiler or no headers of 16-bit floats."""
    try:
        nvrtc.find_nvrtc()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    if dtype in dtypes.HALVES and not nvrtc._include():
        pytest.skip("no headers of 16-bit floats: pip install nvidia-cuda-runtime")
    given = options(dtype, constants)
    return nvrtc.compile_source(read(f"{file}.cu"), given, architecture=architecture).kernels


def most_registers(file, constants):
    """Return what a thread may have: 64 of 1024 threads, 128 of 512, 255 of 256."""
    if file in ("norm", "softmax", "cross_entropy"):
        return 64 if constants["ITEMS"] == 0 else 128
    return 64 if file == "column_sums" else 168


@pytest.mark.slow
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=str)
@pytest.mark.parametrize(("file", "constants"), FILES, ids=str)
def test_kernels_compile_and_stay_in_registers(file, constants, dtype, architecture):
    allowed = 32 if dtype == dtypes.float64 else 0  # bytes: the exponential of doubles takes many
    for kernel in costs(file, dtype, constants, architecture):
        assert max(kernel.spill_store_bytes, kernel.spill_load_bytes) <= allowed, kernel
        assert kernel.stack_bytes <= allowed, kernel
        assert kernel.registers <= most_registers(file, constants), kernel


def test_a_kernel_compiles_for_each_dtype():
    for dtype in dtypes.FLOATS:
        assert {k.name for k in costs("column_sums", dtype, {}, "sm_80")} == {"column_sums"}
