"""Fourier transforms: the ``fft`` extension of the array API standard, and some more.

Read `helixml.ops.fourier` for how they are defined and differentiated.
"""

from helixml.ops.fourier import (
    fft,
    fft2,
    fftn,
    hfft,
    ifft,
    ifft2,
    ifftn,
    ihfft,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftn,
)
from helixml.ops.frequencies import dct, fftfreq, fftshift, idct, ifftshift, rfftfreq
from helixml.ops.spectrogram import istft, stft

__all__ = [
    "dct",
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "idct",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "istft",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
    "stft",
]
