"""The names of CuPy that the stand-in has. A test asks the real package for each of them."""

__all__ = [
    "CONSTANTS",
    "DTYPES",
    "FFT",
    "FUNCTIONS",
    "IN_PLACE",
    "LACKING",
    "LINALG",
    "METHODS",
    "SYNCHRONIZING",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


DTYPES = _names(
    """
    bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64
    complex128 intp
    """
)

CONSTANTS = _names(
    """
    pi e inf nan newaxis euler_gamma dtype iinfo finfo generic integer floating inexact number
    """
)

# Called as NumPy's of the same name.
FUNCTIONS = _names(
    """
    abs absolute acos acosh add all allclose amax amin angle any append arccos arccosh arcsin
    arcsinh arctan arctan2 arctanh argmax argmin argpartition argsort argwhere around
    array_equal array_split ascontiguousarray asfortranarray asin asinh astype atan atan2 atanh
    atleast_1d atleast_2d atleast_3d bincount bitwise_and bitwise_count bitwise_invert
    bitwise_or bitwise_xor broadcast_arrays broadcast_to can_cast cbrt ceil clip column_stack
    concat concatenate conj conjugate convolve copysign corrcoef correlate cos cosh
    count_nonzero cov cross cumprod cumsum deg2rad degrees diag diag_indices diagonal diff
    digitize divide divmod dot dsplit dstack einsum equal exp exp2 expand_dims expm1 extract
    fabs flatnonzero flip fliplr flipud floor floor_divide fmax fmin fmod gcd gradient greater
    greater_equal heaviside histogram hsplit hstack hypot i0 imag inner interp invert isclose
    iscomplexobj isfinite isinf isnan isneginf isposinf isrealobj isscalar kron lcm ldexp
    left_shift less less_equal lexsort log log10 log1p log2 logaddexp logaddexp2 logical_and
    logical_not logical_or logical_xor matmul matrix_transpose max maximum may_share_memory mean
    median meshgrid min minimum mod modf moveaxis multiply nan_to_num nanargmax nanargmin
    nancumsum nanmax nanmean nanmin nanprod nanstd nansum nanvar ndim negative nextafter nonzero
    not_equal outer pad partition percentile permute_dims positive pow power prod promote_types
    ptp quantile rad2deg radians ravel ravel_multi_index real reciprocal remainder repeat
    reshape result_type right_shift rint roll rollaxis rot90 round searchsorted select shape
    shares_memory sign signbit sin sinc sinh size sort split sqrt square squeeze stack std
    subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace transpose trapezoid
    tril tril_indices triu triu_indices true_divide trunc unique unravel_index unwrap vander var
    vdot vsplit vstack where
    """
)

# Change their first argument and return nothing.
IN_PLACE = _names(
    """
    copyto fill_diagonal place put put_along_axis putmask
    """
)

# The shape of what they return depends on values: they wait for the device.
SYNCHRONIZING = _names(
    """
    allclose argwhere array_equal bincount extract flatnonzero histogram nonzero unique
    """
)

FFT = _names(
    """
    fft fft2 fftfreq fftn fftshift hfft ifft ifft2 ifftn ifftshift ihfft irfft irfft2 irfftn
    rfft rfft2 rfftfreq rfftn
    """
)

LINALG = _names(
    """
    cholesky det eigh eigvalsh inv lstsq matrix_power matrix_rank norm pinv qr slogdet solve svd
    tensorinv tensorsolve
    """
)

METHODS = _names(
    """
    all any argmax argmin argpartition argsort astype clip conj conjugate copy cumprod cumsum
    diagonal dot flatten max mean min nonzero prod ravel repeat reshape round searchsorted
    squeeze std sum swapaxes take trace transpose var view
    """
)

# Keywords that NumPy's functions of these names have and CuPy's lack, or call otherwise.
_LACKING = """
    A hermitian rtol: linalg.matrix_rank
    a: histogram linalg.matrix_power
    arr: extract take_along_axis
    arrays: concat concatenate stack
    axis: lexsort
    correction mean: nanstd nanvar std var
    device: astype fft.fftfreq fft.rfftfreq
    hermitian: linalg.svd
    hermitian rtol: linalg.pinv
    keepdims: count_nonzero
    kind order: argpartition partition
    kwargs max min: clip
    like: ascontiguousarray asfortranarray
    m: cov flip fliplr flipud rot90
    mode: take
    order stable: argsort sort
    out: fft.fft fft.fft2 fft.fftn fft.hfft fft.ifft fft.ifft2 fft.ifftn fft.ihfft fft.irfft
    out: fft.irfft2 fft.irfftn fft.rfft fft.rfft2 fft.rfftn
    shape: reshape unravel_index
    sorted: unique
    subok: broadcast_arrays broadcast_to
    subok x1 x2: matmul
    upper: linalg.cholesky
    weights: percentile quantile
    x: corrcoef
"""
LACKING: dict[str, frozenset[str]] = {
    name: _names(words)
    for words, _, functions in (line.partition(":") for line in _LACKING.strip().splitlines())
    for name in functions.split()
}
