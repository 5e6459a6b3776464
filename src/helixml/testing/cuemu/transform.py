"""CUDA C++ source to what g++ compiles: only declarations of shared memory are rewritten.

Everything else is done by the header that is included before. The rewriting knows no C++, so the
source keeps to some rules, and what breaks one is refused here, with its line:

- one ``__shared__`` variable a statement, without a starting value;
- every kernel is written ``extern "C" __global__ void name(`` or is a template; macros make none;
- no launches from a kernel, no inline assembly, no clocks, no textures; no headers but
  ``cuda_fp16.h`` and ``cuda_bf16.h``, hence neither ``std::``, ``cub``, cooperative groups nor
  tensor cores: NVRTC has no headers either. Own ones are put in their place by who compiles.
"""

from __future__ import annotations

import re

from helixml.testing.cuemu.errors import SourceError

__all__ = ["kernel_names", "rewrite", "without_comments"]

_TOKENS = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.DOTALL)
_SHARED = re.compile(r"(?P<extern>extern\s+)?(?:static\s+)?__shared__\s+(?P<rest>[^;]*);")
_ALIGN = re.compile(r"(?:__align__|alignas)\s*\(\s*(\w+)\s*\)")
_VARIABLE = re.compile(r"(?P<type>.+?)\s*\b(?P<name>[A-Za-z_]\w*)\s*(?P<sizes>(?:\[[^\]]*\]\s*)*)")
_BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
_KERNEL = re.compile(
    rf"(?P<c>extern\s+\"C\"\s+)?__global__\s+{_BOUNDS}(?:static\s+)?void\s+{_BOUNDS}(?P<name>\w+)\s*\("
)
_HEADERS = ("cuda_fp16.h", "cuda_bf16.h")

# What is refused wherever it stands, and what to do instead.
_REFUSED = (
    (r"<<<", "a launch from a kernel", "launch it from Python"),
    (r"\bextern\s+\"C\"\s*\{", 'a block extern "C" { }', 'write extern "C" before each kernel'),
    (r"\basm\b", "inline assembly", "use an intrinsic"),
    (
        r"\b(?:clock|clock64|__nanosleep|__globaltimer)\s*\(",
        "a clock",
        "measure with events from Python",
    ),
    (r"\bstd\s*::", "the standard library", "NVRTC has no headers of it"),
    (r"\b(?:cub|thrust|wmma|cooperative_groups)\s*::", "a library", "write it out"),
    (r"\b(?:texture\s*<|tex[123]D\w*\s*[<(]|surf[123]D\w*\s*[<(])", "a texture", "use an array"),
    (
        r"\b(?:u?int(?:8|16|32|64)_t|uint|ushort|ulong|uchar)\b",
        "a type that NVRTC does not know",
        "write int, unsigned, long long",
    ),
    (
        r"\b(?:M_\w+|INFINITY|NAN|HUGE_VALF?|(?:FLT|DBL)_[A-Z_\d]+|U?(?:INT|LONG|LLONG)_(?:MAX|MIN))\b",
        "a constant that NVRTC does not know",
        "write the number, or __int_as_float(0x7f800000) for infinity",
    ),
    (r"\b__managed__\b", "__managed__ memory", "pass an array"),
    (r"\b__syncthreads\s*\(\s*\w+\s*\)", "an argument of __syncthreads", "it has none"),
)


def without_comments(source: str) -> str:
    """Blank the comments out; every line keeps its number."""

    def blank(match: re.Match[str]) -> str:
        text = match[0]
        return " " + "\n" * text.count("\n") if text.startswith("/") else text

    return _TOKENS.sub(blank, source)


def kernel_names(source: str) -> list[str]:
    """Name the kernels declared ``extern "C"``; templates are asked for by expressions."""
    return [match["name"] for match in _KERNEL.finditer(without_comments(source)) if match["c"]]


def rewrite(source: str) -> str:
    """Return the source for g++, with the same lines.

    Raises
    ------
    SourceError : the source breaks one of the rules of this module.

    Examples
    --------
    >>> rewrite("__shared__ float tile[4];")
    'static char cuemu_key_1_; auto& tile = cuemu::shared_variable<float[4]>(&cuemu_key_1_, 1, 1);'
    """
    source = without_comments(source)
    for pattern, what, instead in _REFUSED:
        found = re.search(pattern, source)
        if found and not _defines(source, found[0]):
            raise _refusal(source, found.start(), what, instead)
    for found in re.finditer(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]+)", source, re.MULTILINE):
        if found[1] not in _HEADERS:
            raise _refusal(
                source,
                found.start(),
                f"the header {found[1]}",
                f"NVRTC has {' and '.join(_HEADERS)}; put the text of your own in its place",
            )
    count = 0

    def declare(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return _declaration(source, match, count)

    result = _SHARED.sub(declare, source)
    if left := re.search(r"__shared__", result):
        raise _refusal(
            source, left.start(), "a __shared__ that declares no variable", "write TYPE NAME[SIZE];"
        )
    return result


def _defines(source: str, name: str) -> bool:
    """Tell whether a source defines the name that is refused otherwise."""
    defined = rf"#[ \t]*define\s+{re.escape(name)}\b|typedef\b[^;]*\b{re.escape(name)}\s*;"
    return re.search(rf"{defined}|using\s+{re.escape(name)}\s*=", source) is not None


def _declaration(source: str, match: re.Match[str], number: int) -> str:
    """Turn one declaration of shared memory into a reference to where the scheduler has put it."""
    align, rest = "1", match["rest"]
    if aligned := _ALIGN.search(rest):
        align, rest = aligned[1], _ALIGN.sub(" ", rest, count=1)
    variable = _VARIABLE.fullmatch(rest.strip())
    outside = re.sub(r"<[^<>]*>", "", rest)
    if not variable or "," in outside or "=" in outside or "(" in outside:
        raise _refusal(
            source,
            match.start(),
            f"__shared__ {' '.join(rest.split())}",
            "one variable a statement, without a starting value: __shared__ TYPE NAME[SIZE];",
        )
    line = source.count("\n", 0, match.start()) + 1
    kept = "\n" * match[0].count("\n")
    kind, name, sizes = (
        variable["type"].strip(),
        variable["name"],
        "".join(variable["sizes"].split()),
    )
    if match["extern"]:
        if sizes != "[]":
            raise _refusal(
                source, match.start(), f"extern __shared__ {rest.strip()}", "write NAME[];"
            )
        return f"{kind}* {name} = cuemu::shared_array<{kind}>({line});{kept}"
    key = f"cuemu_key_{number}_"
    return (
        f"static char {key}; auto& {name} = "
        f"cuemu::shared_variable<{kind}{sizes}>(&{key}, {align}, {line});{kept}"
    )


def _refusal(source: str, position: int, what: str, instead: str) -> SourceError:
    line = source.count("\n", 0, position) + 1
    return SourceError(f"kernel source, line {line}: {what} is not accepted. Hint: {instead}.")
