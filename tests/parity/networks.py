"""How PyTorch's losses, norms and other functions of networks are spelled in helixml."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from parity.lookup import NotOffered, hx
from parity.spelling import given


def loss(name: str, **renamed: str) -> Callable[..., Any]:
    """Return a loss of (input, target); what is deprecated in PyTorch is left out."""

    def call(
        x: Any, target: Any, *args: Any, size_average: Any = None, reduce: Any = None, **kwargs: Any
    ) -> Any:
        options = {renamed.get(key, key): value for key, value in kwargs.items()}
        return hx.named(name)(x, target, *args, **options)

    return call


def classes_last(
    logits: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Return the cross entropy: PyTorch has the classes on axis 1."""
    moved = logits if logits.ndim < 2 else hx.moveaxis(logits, 1, -1)
    if not hx.isdtype(target.dtype, "integral"):
        target = target if target.ndim < 2 else hx.moveaxis(target, 1, -1)
        options = {"label_smoothing": label_smoothing, "reduction": reduction}
        return hx.soft_cross_entropy(moved, target, weight, **options)
    options = {"ignore_index": ignore_index, "reduction": reduction}
    if weight is None:
        return hx.cross_entropy(moved, target, label_smoothing=label_smoothing, **options)
    if label_smoothing:
        raise NotOffered("cross_entropy(weight=, label_smoothing=)")
    return hx.nll_loss(hx.log_softmax(moved, axis=-1), target, weight, **options)


def aligned(logits: Any, *args: Any, **options: Any) -> Any:
    """Return the loss of alignments behind log_softmax: PyTorch has time first."""
    return hx.ctc_loss(hx.moveaxis(hx.log_softmax(logits), 0, 1), *args, **options)


def class_losses(
    x: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Return the loss of log-probabilities: PyTorch has the classes on axis 1."""
    moved = x if x.ndim < 2 else hx.moveaxis(x, 1, -1)
    return hx.nll_loss(moved, target, weight, ignore_index=ignore_index, reduction=reduction)


def soft_labels(
    x: Any, target: Any, weight: Any = None, *, reduction: str = "mean", **_: Any
) -> Any:
    """Return the mean cross entropy of the labels."""
    losses = hx.binary_cross_entropy_with_logits(x, target, weight, reduction="none")
    losses = hx.mean(losses, axis=-1)
    return losses if reduction == "none" else getattr(hx, reduction)(losses)


def gaussian_loss(
    x: Any, target: Any, var: Any, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """Return the loss; PyTorch broadcasts, a variance also over the last axis."""
    if var.ndim == x.ndim - 1:
        var = var[..., None]
    shape = hx.broadcast_arrays(x, target)[0].shape
    x, target, var = (hx.broadcast_to(value, shape) for value in (x, target, var))
    return hx.gaussian_nll_loss(x, target, var, full=full, eps=eps, reduction=reduction)


def triplet(
    a: Any,
    b: Any,
    c: Any,
    *,
    distance_function: Any = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """Return the triplet loss of Euclidean distances."""
    if distance_function is not None and type(distance_function).__name__ != "PairwiseDistance":
        raise NotOffered("triplet_margin_loss(distance_function=)")
    return hx.triplet_margin_loss(a, b, c, margin=margin, swap=swap, reduction=reduction)


def layer_normed(
    x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Return the layer norm over the last axes."""
    size = prod(shape)
    weight = hx.ones((size,), dtype=x.dtype) if weight is None else weight.reshape(-1)
    bias = None if bias is None else bias.reshape(-1)
    flat = x.reshape(*x.shape[: x.ndim - len(shape)], size)
    return hx.layer_norm(flat, weight, bias, eps).reshape(*x.shape)


def rms_normed(x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Any:
    """Return the root-mean-square norm over the last axes."""
    size = prod(shape)
    weight = hx.ones((size,), dtype=x.dtype) if weight is None else weight.reshape(-1)
    eps = hx.finfo(x.dtype).eps if eps is None else eps
    flat = x.reshape(*x.shape[: x.ndim - len(shape)], size)
    return hx.rms_norm(flat, weight, eps=eps).reshape(*x.shape)


def batch_normed(
    x: Any,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Return the batch norm by given statistics."""
    if training or x.ndim < 2:
        raise NotOffered("batch_norm(training=), or of no batch")
    return hx.batch_norm(x, mean, var, weight, bias, eps)


def instance_normed(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Return the instance norm by each instance's statistics."""
    if not use_input_stats:
        raise NotOffered("instance_norm(use_input_stats=)")
    return hx.instance_norm(x, weight, bias, eps)


def cosines(x: Any, y: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """Return the cosine similarity; PyTorch broadcasts."""
    x, y = hx.broadcast_arrays(x, y)
    if not x.ndim:
        x, y = x.reshape(1), y.reshape(1)
    return hx.cosine_similarity(x, y, axis=dim, eps=eps)


def attended(
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Any:
    """Return the attention."""
    if dropout_p:
        raise NotOffered("attention(dropout_p=)")
    return hx.attention(q, k, v, causal=is_causal, **given(mask=attn_mask, scale=scale))


def embedded(
    weight: Any,
    ids: Any,
    padding_idx: Any = None,
    max_norm: Any = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Return rows of a table."""
    if padding_idx is not None or max_norm is not None or scale_grad_by_freq or sparse:
        raise NotOffered("embedding's options for training")
    return hx.take(weight, ids, axis=0)
