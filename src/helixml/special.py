"""Special functions, in the spelling of `scipy.special`, differentiable and in the operands' dtype.

Values are SciPy's, which is loaded by the first call that needs it; `helixml.ops.special` says how.
"""

from helixml.ops.activation import softplus
from helixml.ops.bessel import i0, i0e, i1, i1e, iv, ive, j0, j1, jv
from helixml.ops.categorical import log_softmax, softmax
from helixml.ops.elementwise import expm1, log1p
from helixml.ops.elementwise import sigmoid as expit
from helixml.ops.entropy import entr, log_sigmoid, logit, rel_entr, xlog1py, xlogy
from helixml.ops.entropy import log_sigmoid as log_expit
from helixml.ops.gamma import (
    beta,
    betaln,
    digamma,
    gamma,
    gammainc,
    gammaincc,
    gammaln,
    lgamma,
    multigammaln,
    polygamma,
    zeta,
)
from helixml.ops.gamma import digamma as psi
from helixml.ops.logarithms import exp2
from helixml.ops.reduction import logsumexp
from helixml.ops.special import (
    erf,
    erfc,
    erfcinv,
    erfcx,
    erfinv,
    log_ndtr,
    ndtr,
    ndtri,
)
from helixml.ops.trigonometric import sinc

__all__ = [
    "beta",
    "betaln",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcinv",
    "erfcx",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "iv",
    "ive",
    "j0",
    "j1",
    "jv",
    "lgamma",
    "log1p",
    "log_expit",
    "log_ndtr",
    "log_sigmoid",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "rel_entr",
    "sinc",
    "softmax",
    "softplus",
    "xlog1py",
    "xlogy",
    "zeta",
]
