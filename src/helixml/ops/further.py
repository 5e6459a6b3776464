"""Which file defines each function that few programs use, and that is loaded on first use.

A name here is found in `helixml` and in `helixml.ops`, as those are that `ops/__init__.py` imports.
"""

_FILES = {
    "alignment": "ctc_loss",
    "arithmetic": (
        "allclose array_equal float_power fmax fmin fmod frac frexp gcd heaviside isclose lcm "
        "ldexp lerp"
    ),
    "attending": "attention",
    "calculus": "cumulative_trapezoid gradient interp trapezoid",
    "choosing": "argwhere cartesian_prod combinations flatnonzero select",
    "class_losses": "focal_loss info_nce_loss soft_cross_entropy",
    "contraction": "einsum einsum_path",
    "convolution": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "cumulative": "cumulative_logsumexp cumulative_max cumulative_min",
    "decoding": "mamba_step stored_linear",
    "delta_rule": "gated_delta_rule",
    "diagonals": "block_diag diag diag_embed diagflat vander",
    "distances": "cdist pdist renorm",
    "entropy": "log_sigmoid logit xlogy",
    "exponential_sums": "exponential_sum",
    "gamma": "digamma gammaln lgamma",
    "grids": "geomspace logspace ravel_multi_index tri tril_indices triu_indices unravel_index",
    "hybrid": "scan_attention",
    "long_convolution": "fft_conv",
    "loss": (
        "binary_cross_entropy binary_cross_entropy_with_logits gaussian_nll_loss huber_loss "
        "kl_div l1_loss mse_loss nll_loss poisson_nll_loss smooth_l1_loss"
    ),
    "margin": (
        "cosine_embedding_loss hinge_embedding_loss margin_ranking_loss "
        "multilabel_margin_loss soft_margin_loss triplet_margin_loss"
    ),
    "matrices": "kron",
    "nans": "nan_to_num nanmax nanmean nanmin nanprod nanstd nansum nanvar",
    "normalisation": "batch_norm group_norm instance_norm local_response_norm normalize",
    "norms": "cosine_similarity",
    "padding": "pad",
    "piecewise": (
        "celu elu gelu_tanh glu hardshrink hardsigmoid hardswish hardtanh leaky_relu mish "
        "prelu relu6 selu softmin softshrink softsign tanhshrink threshold"
    ),
    "pooling": (
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d "
        "max_pool2d max_pool3d"
    ),
    "quantization": "dequantize fake_quantize quantize",
    "ranking": "kthvalue median mode nanmedian nanquantile quantile topk",
    "rearranging": "flatten fliplr flipud ravel rot90 swapaxes unflatten",
    "resampling": "channel_shuffle interpolate pixel_shuffle pixel_unshuffle",
    "sampling": "affine_grid grid_sample",
    "scattering": "put_along_axis scatter scatter_add",
    "segments": "segment_max segment_mean segment_min segment_prod segment_sum",
    "stacking": (
        "array_split atleast_1d atleast_2d atleast_3d column_stack dsplit dstack hsplit "
        "hstack vsplit vstack"
    ),
    "state_space_dual": "linear_attention ssd",
    "statistics": "average bincount corrcoef cov digitize histogram ptp",
    "windows": "col2im fold im2col unfold",
}
FURTHER = {name: file for file, names in _FILES.items() for name in names.split()}
