"""The long convolution in helixml."""

import helixml as hx
from bench.ours import job

fft_conv = job(hx.fft_conv)
