"""WGSL source files as programs: read, compiled when first needed, launched with checked arguments.

A program is a file of `kernels` with what it includes by lines ``#include "name.wgsl"``. What
varies is put before it, as ``head``: ``alias T = f32;`` or a function. Numbers that choose tile
sizes and the like are ``override`` constants. Pipelines are kept by entry, head and constants.

WebGPU accepts much that gives wrong numbers silently, so the source is read here too, and refused
unless

- all arrays are ``@group(0) @binding(N) var<storage, read_write>``, at most 8 of an entry: one
  buffer may then be bound twice, and the layout says so, whatever the entry uses;
- numbers come in one struct, ``@group(1) @binding(0) var<uniform>``, of at most 256 bytes; they are
  packed by the types that its members have;
- ``var<workgroup>`` arrays take at most 16 KiB together, which drivers do not check;
- a workgroup has at most 256 invocations;
- whoever launches an entry with loops says how many iterations one invocation makes in all of them,
  ``trips``, at most 65,535: Mesa's software device leaves all loops after that many, silently.

A number of groups is folded to two dimensions beyond 65,535; such kernels get their number by
``linear(group, groups)`` of prelude.wgsl and must check that it is in range.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any

from helixml import dtypes
from helixml.backends.wgpu.arrays import DTYPES, WgpuArray
from helixml.backends.wgpu.pool import Storage
from helixml.backends.wgpu.runtime import LIMITS, SLOT, Runtime
from helixml.dtypes import DType
from helixml.errors import BackendError

__all__ = ["INCLUDE", "MOST_TRIPS", "Entry", "Program", "folded", "raw", "read"]

MOST_TRIPS = 65535  # iterations of all loops of an invocation, on Mesa's llvmpipe
_MOST_GROUPS = LIMITS["max-compute-workgroups-per-dimension"]
_MOST_STORAGE = LIMITS["max-compute-workgroup-storage-size"]
_MOST_INVOCATIONS = LIMITS["max-compute-invocations-per-workgroup"]
_MOST_BUFFERS = LIMITS["max-storage-buffers-per-shader-stage"]

INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_BINDING = re.compile(
    r"@group\((\d+)\)\s*@binding\((\d+)\)\s*var<([\w, ]+)>\s*(\w+)\s*:\s*([^;]+);"
)
_WORKGROUP = re.compile(r"var<workgroup>\s*(\w+)\s*:\s*([^;]+);")
_NUMBER = re.compile(r"\b(?:const|override)\s+(\w+)\s*(?::\s*\w+\s*)?(?:=\s*([^;]+))?;")
_ALIAS = re.compile(r"\balias\s+(\w+)\s*=\s*([^;]+);")
_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{([^}]*)\}")
_FUNCTION = re.compile(r"\bfn\s+(\w+)\s*\(")
_SIZE = re.compile(r"@workgroup_size\(([^)]*)\)\s*$")
_LOOP = re.compile(r"\b(?:for|while|loop)\b")
_NAME = re.compile(r"(?<![.\w])[A-Za-z_]\w*")  # but no member's, behind a dot
_OWN = re.compile(r"\b(?:let|var)\s+(\w+)|\b(\w+)\s*:(?!:)")  # parameters and locals
_ARRAY = re.compile(r"array<(.+?)\s*(?:,\s*([^,<>]+))?>$")

# Members of a uniform struct: letter of `struct`, how many, alignment.
_MEMBERS = {
    **{f"{kind}": (letter, 1, 4) for kind, letter in (("u32", "I"), ("i32", "i"), ("f32", "f"))},
    **{
        f"vec{n}<{kind}>": (letter, n, 4 * n)
        for kind, letter in (("u32", "I"), ("i32", "i"), ("f32", "f"))
        for n in (2, 4)
    },
}
_SIZES = {"u32": 4, "i32": 4, "f32": 4, "atomic<u32>": 4, "atomic<i32>": 4}
_SIZES.update({f"vec{n}<{kind}>": 4 * n for kind in ("u32", "i32", "f32") for n in (2, 4)})


@cache
def raw(file: str) -> str:
    """Return the text of a file of `kernels`."""
    return (files(__package__) / "kernels" / file).read_text(encoding="utf-8")


def read(file: str) -> str:
    """Return the text of a file of `kernels`, each file that it includes in its place, once."""
    return _expanded(file, set())


def _expanded(file: str, seen: set[str]) -> str:
    seen.add(file)
    return _with_includes(raw(file), seen)


def _with_includes(text: str, seen: set[str]) -> str:
    def included(match: re.Match[str]) -> str:
        return "" if match[1] in seen else _expanded(match[1], seen)

    return INCLUDE.sub(included, text)


def folded(groups: int) -> tuple[int, int, int]:
    """Return a grid of at least ``groups`` groups, with few more than that.

    >>> folded(7), folded(65536), folded(0)
    ((7, 1, 1), (32768, 2, 1), (0, 1, 1))
    """
    rows = max(1, -(-groups // _MOST_GROUPS))
    return -(-groups // rows), rows, 1


@dataclass(frozen=True)
class Member:
    """A member of the uniform struct: where it stands, and how many numbers it takes."""

    name: str
    count: int
    type: str


@dataclass(frozen=True)
class Entry:
    """What the source says of one entry with given constants.

    Attributes
    ----------
    bindings : numbers of the arrays that it uses.
    names, types : what they are called, and their element types with aliases resolved.
    members, layout : of the uniform struct.
    workgroup : its size.
    storage : bytes of its ``var<workgroup>``.
    loops : whether it has any.
    """

    bindings: tuple[int, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    members: tuple[Member, ...]
    layout: struct.Struct
    workgroup: tuple[int, ...]
    storage: int
    loops: bool


class Source:
    """A text of WGSL taken apart, as far as the launcher needs it."""

    def __init__(self, text: str) -> None:
        text = _COMMENT.sub("", text)
        self.aliases = {name: type_.strip() for name, type_ in _ALIAS.findall(text)}
        self.structs = dict(_STRUCT.findall(text))
        self.numbers = dict(_NUMBER.findall(text))
        self.bindings = _BINDING.findall(text)
        self.shared = dict(_WORKGROUP.findall(text))
        self.bodies: dict[str, str] = {}
        self.sizes: dict[str, str] = {}
        for match in _FUNCTION.finditer(text):
            name = match[1]
            start = text.index("{", match.end())
            self.bodies[name] = text[match.start() : _closing(text, start)]
            size = _SIZE.search(text[: match.start()].rstrip())
            if size:
                self.sizes[name] = size[1]

    def entry(self, name: str, constants: Mapping[str, int | float]) -> Entry:
        """Return what is said of an entry, or raise a BackendError for what is not served."""
        if name not in self.sizes:
            raise BackendError(f"no kernel {name!r}; there are {', '.join(self.sizes)}.")
        reached = self._reached(name)
        words = {word for f in reached for word in self._words(f)}
        arrays: dict[int, tuple[str, str]] = {}
        members: tuple[Member, ...] = ()
        layout = struct.Struct("<")
        for group, number, space, variable, type_ in self.bindings:
            if variable not in words:
                continue
            if space == "uniform" and (group, number) == ("1", "0"):
                members, layout = self._members(name, type_.strip())
            elif space.replace(" ", "") == "storage,read_write" and group == "0":
                found = _ARRAY.match(self.resolved(type_))
                arrays[int(number)] = variable, found[1] if found else self.resolved(type_)
            else:
                raise BackendError(
                    f"{name}: {variable} is var<{space}> in group {group}. Hint: arrays are "
                    "var<storage, read_write> in group 0, numbers one var<uniform> in group 1."
                )
        if len(arrays) > _MOST_BUFFERS:
            raise BackendError(f"{name}: {len(arrays)} arrays; WebGPU promises {_MOST_BUFFERS}.")
        values = self._values(constants)
        workgroup = tuple(_number(text, values) for text in self.sizes[name].split(",") if text)
        if prod(workgroup) > _MOST_INVOCATIONS:
            raise BackendError(
                f"{name}: a workgroup of {prod(workgroup)}; WebGPU promises {_MOST_INVOCATIONS}."
            )
        storage = sum(self._bytes(t, values) for v, t in self.shared.items() if v in words)
        if storage > _MOST_STORAGE:
            raise BackendError(
                f"{name}: {storage:,} bytes of var<workgroup>; WebGPU promises {_MOST_STORAGE:,}."
            )
        order = sorted(arrays)
        return Entry(
            tuple(order),
            tuple(arrays[n][0] for n in order),
            tuple(arrays[n][1] for n in order),
            members,
            layout,
            workgroup,
            storage,
            any(_LOOP.search(self.bodies[f]) for f in reached),
        )

    def resolved(self, type_: str) -> str:
        """Return a type with aliases replaced and without blanks."""
        return _NAME.sub(lambda m: self.aliases.get(m[0], m[0]), type_).replace(" ", "")

    def _words(self, function: str) -> set[str]:
        """Return the words of a function, without its parameters and what it declares."""
        body = self.bodies[function]
        own = {name for names in _OWN.findall(body) for name in names}
        return set(_NAME.findall(body)) - own

    def _reached(self, name: str) -> set[str]:
        reached, new = set(), {name}
        while new:
            reached |= new
            called = {word for f in new for word in _NAME.findall(self.bodies[f])}
            new = (called & self.bodies.keys()) - reached
        return reached

    def _members(self, entry: str, type_: str) -> tuple[tuple[Member, ...], struct.Struct]:
        members = []
        form, place = "<", 0
        for text in filter(str.strip, re.split(r",(?![^<]*>)", self.structs[type_])):
            name, kind = (part.strip() for part in text.split(":"))
            array = _ARRAY.match(kind)
            single, length = (array[1], int(array[2].rstrip("u"))) if array else (kind, 1)
            if single not in _MEMBERS or (array and not single.startswith("vec4")):
                raise BackendError(
                    f"{entry}: the uniform {name!r} is {kind}. Hint: u32, i32, f32, vec2, vec4 of "
                    "these, or arrays of vec4."
                )
            letter, count, alignment = _MEMBERS[single]
            gap = -place % alignment
            form += f"{gap}x{length * count}{letter}"
            place += gap + 4 * length * count
            members.append(Member(name, length * count, kind))
        if place > SLOT:
            raise BackendError(f"{entry}: {place} bytes of uniforms; a slot has {SLOT}.")
        return tuple(members), struct.Struct(form)

    def _values(self, constants: Mapping[str, int | float]) -> dict[str, Any]:
        values: dict[str, Any] = dict(constants)
        for name, text in self.numbers.items():
            if name not in values and text:
                try:
                    values[name] = _number(text, values)
                except (SyntaxError, NameError, TypeError):
                    continue  # an expression of another kind, which no size depends on
        return values

    def _bytes(self, type_: str, values: Mapping[str, Any]) -> int:
        type_ = self.resolved(type_)
        array = _ARRAY.match(type_)
        if array and array[2]:
            return self._bytes(array[1], values) * int(_number(array[2], values))
        if type_ not in _SIZES:
            raise BackendError(f"var<workgroup>: the size of {type_} is not known.")
        return _SIZES[type_]


def _number(text: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a constant expression of our own sources."""
    text = re.sub(r"\b(\d+)[ui]\b", r"\1", text).replace("/", "//")
    return eval(text, {"__builtins__": {}}, dict(values))


def _closing(text: str, start: int) -> int:
    """Return the place behind the brace that closes the one at ``start``."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return place + 1
    raise BackendError("a brace is not closed.")


class Program:
    """The kernels of one file.

    Parameters
    ----------
    runtime : the device.
    file : name of a ``.wgsl`` file of `kernels`.

    Examples
    --------
    ``Program.of(runtime, "copy.wgsl").launch("copy", [x, y], {"size": x.size}, groups=8)``
    """

    def __init__(self, runtime: Runtime, file: str) -> None:
        self._runtime = runtime
        self.file = file
        self._ready: dict[tuple[Any, ...], tuple[Any, Entry]] = {}
        self._modules: dict[str, tuple[Any, Source]] = {}

    @staticmethod
    def of(runtime: Runtime, file: str) -> Program:
        """Return the one program of a file on a device."""
        found = runtime.programs.get(file)
        if found is None:
            found = runtime.programs[file] = Program(runtime, file)
        return found

    def launch(
        self,
        entry: str,
        buffers: Sequence[WgpuArray | Storage],
        uniforms: Mapping[str, Any] | None = None,  # Any: numbers, sequences of numbers
        *,
        groups: int | tuple[int, ...],
        trips: int | None = None,
        constants: Mapping[str, int | float] | tuple[tuple[str, int | float], ...] = (),
        head: str = "",
    ) -> None:
        """Record a dispatch; without a group nothing happens.

        Parameters
        ----------
        entry : name of the kernel.
        buffers : arrays by the numbers of their bindings; a `WgpuArray` must be dense and have the
            element type of the source, a `Storage` is bound as it is.
        uniforms : a number, or a sequence of them, for each member of the uniform struct.
        groups : numbers of workgroups; a single one is folded beyond 65,535.
        trips : iterations that one invocation makes in all loops, where there are loops.
        constants : values of ``override`` constants.
        head : WGSL that is put before the file.

        Raises
        ------
        BackendError
            If there is no such kernel, an argument does not fit, or the source is not served.
        """
        if isinstance(constants, Mapping):
            constants = tuple(constants.items())
        key = (entry, head, constants)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = self._prepared(entry, head, constants)
        pipeline, said = ready
        if len(buffers) != len(said.bindings):
            raise BackendError(
                f"{entry}: {len(buffers)} arrays for {len(said.bindings)} bindings: "
                f"{', '.join(said.names)}."
            )
        storages = [
            b if type(b) is Storage else self._storage(entry, said, number, b)
            for number, b in enumerate(buffers)
        ]
        if said.loops and (trips is None or trips > MOST_TRIPS):
            raise BackendError(
                f"{entry}: {'an unknown number of' if trips is None else trips} iterations in one "
                f"invocation; loops end silently after {MOST_TRIPS}. Hint: pass trips=, and cut "
                "the work into more invocations."
            )
        if isinstance(groups, int):
            grid = folded(groups)
        else:
            columns, rows, layers, *_ = *groups, 1, 1
            grid = columns, rows, layers
        if max(grid) > _MOST_GROUPS:
            raise BackendError(f"{entry}: a grid of {grid}; WebGPU promises {_MOST_GROUPS} each.")
        numbers = self._packed(entry, said, uniforms or {})
        if 0 not in grid:
            self._runtime.record(pipeline, said.bindings, storages, numbers, grid)

    def _prepared(
        self, entry: str, head: str, constants: tuple[tuple[str, int | float], ...]
    ) -> tuple[Any, Entry]:
        """Return a pipeline and what the source says of it."""
        runtime, device = self._runtime, self._runtime.device
        made = self._modules.get(head)
        if made is None:
            text = _with_includes(f'{head}\n#include "{self.file}"\n', set())
            module = runtime.asked(self.file, lambda: device.create_shader_module(code=text))
            made = self._modules[head] = module, Source(text)
        module, source = made
        try:
            said = source.entry(entry, dict(constants))
        except BackendError as error:
            raise BackendError(f"{self.file}: {error}") from None
        stage: dict[str, Any] = {"module": module, "entry_point": entry}
        if constants:
            stage["constants"] = dict(constants)
        _, layout = runtime.layouts(said.bindings)
        pipeline = runtime.asked(
            f"{self.file}: {entry}",
            lambda: device.create_compute_pipeline(layout=layout, compute=stage),
        )
        return pipeline, said

    def _storage(self, entry: str, said: Entry, number: int, x: WgpuArray | Storage) -> Storage:
        """Return the buffer of a dense array of the right type."""
        name = said.names[number]
        if isinstance(x, Storage):
            return x
        if not isinstance(x, WgpuArray):
            raise BackendError(
                f"{entry}: {name} must be an array of the device, not {type(x).__name__}."
            )
        wanted = said.types[number]
        if wanted in _HELD and x.dtype not in _HELD[wanted]:
            raise BackendError(f"{entry}: {name} holds {wanted}, not {x.dtype}.")
        if not x.is_dense:
            raise BackendError(f"{entry}: {name} is a view. Hint: dense() first.")
        return x.storage

    @staticmethod
    def _packed(entry: str, said: Entry, uniforms: Mapping[str, Any]) -> bytes:
        """Return the bytes of the uniform struct."""
        values: list[Any] = []
        for member in said.members:
            value = uniforms.get(member.name)
            if member.count == 1:
                values.append(value)
            else:
                given = tuple(value or ())
                values += [*given, *[0] * (member.count - len(given))]
        if len(uniforms) != len(said.members) or None in values:
            raise BackendError(
                f"{entry}: uniforms {sorted(uniforms)}; the struct has "
                f"{sorted(m.name for m in said.members)}."
            )
        try:
            return said.layout.pack(*values)
        except (struct.error, OverflowError) as error:
            raise BackendError(f"{entry}: uniforms {dict(uniforms)}: {error}") from error


# What arrays of an element type of WGSL hold.
_HELD: dict[str, tuple[DType, ...]] = {}
for _dtype, (_, _type) in DTYPES.items():
    _HELD[_type] = (*_HELD.get(_type, ()), _dtype)
_HELD["atomic<u32>"] = (dtypes.uint32,)
