"""Libraries that compile kernels at run time: NVIDIA's, and AMD's, which has the same functions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from helixml.testing.cuemu.errors import SourceError

__all__ = ["RuntimeCompiler"]


class RuntimeCompiler:
    """A library of functions ``nvrtcCompileProgram`` and so on, or ``hiprtcCompileProgram``.

    Parameters
    ----------
    library : what ctypes loads.
    prefix : of the functions' names, "nvrtc" or "hiprtc".
    code : what the library calls machine code, "CUBIN" or "Code".
    """

    def __init__(self, library: str, prefix: str, code: str) -> None:
        self._library = ctypes.CDLL(library)
        self._prefix = prefix
        self._code = code
        self._function("GetErrorString").restype = ctypes.c_char_p

    def compile(
        self,
        source: str,
        options: Sequence[str],
        architecture: str,
        name_expressions: Sequence[str] = (),
    ) -> tuple[bytes, str]:
        """Return a source's machine code and the compiler's words.

        Parameters
        ----------
        options : all of them.
        architecture : what errors call the target.
        name_expressions : instances of templates to compile.

        Raises
        ------
        SourceError : it does not compile; the message is the compiler's.
        """
        program = ctypes.c_void_p()
        self._require(
            self._function("CreateProgram")(
                ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
            )
        )
        try:
            for expression in name_expressions:
                self._require(self._function("AddNameExpression")(program, expression.encode()))
            given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            number = self._function("CompileProgram")(program, len(options), given)
            log = self._bytes(program, "ProgramLog").decode(errors="replace").rstrip("\0\n ")
            if number:
                name = self._prefix.upper()
                raise SourceError(f"kernel source: {name} refuses it for {architecture}:\n{log}")
            return self._bytes(program, self._code), log
        finally:
            self._function("DestroyProgram")(ctypes.byref(program))

    def _function(self, name: str) -> Any:  # Any: a function of ctypes, whose class has no name
        return getattr(self._library, self._prefix + name)

    def _require(self, number: int) -> None:
        if number:
            text = self._function("GetErrorString")(number).decode()
            raise SourceError(f"cuemu.{self._prefix}: {text}")

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._require(self._function(f"Get{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._require(self._function(f"Get{what}")(program, buffer))
        return buffer.raw
