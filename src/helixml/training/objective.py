"""From a batch and a loss function to what is trained.

A batch is a tuple whose last part is the target and whose others the model takes, or a dict in
which one key is the target and the others are the model's arguments by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import helixml as hx
from helixml.errors import DataError

__all__ = ["Prediction", "moved", "parts_of", "predicted", "suitable_loss"]

# (prediction, target) of a batch. Any: a model gives what it likes.
Prediction = tuple[Any, Any]


def predicted(model: Callable[..., Any], batch: Any, target: str) -> Prediction:
    """Run a model on a batch.

    Returns
    -------
    (prediction, target).

    Raises
    ------
    DataError : the batch has no target.
    """
    if isinstance(batch, Mapping):
        if target not in batch:
            raise DataError(
                f"fit: a batch has no {target!r}, it has {', '.join(map(str, batch))}. "
                "Hint: target= names the key of the target."
            )
        return model(**{k: v for k, v in batch.items() if k != target}), batch[target]
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise DataError(
            f"fit: a batch is {type(batch).__name__}, not (x, y) or a dict. "
            "Hint: objective= takes a function of the model and a batch of any form."
        )
    *inputs, wanted = batch
    return model(*inputs), wanted


def suitable_loss(prediction: Any, target: Any) -> hx.Tensor:
    """Return the cross entropy for targets that are integers, else the mean squared error.

    Parameters
    ----------
    prediction : Tensor, (..., classes) logits, or the shape of ``target``.
    target : Tensor, (...) integers, or floats.

    Raises
    ------
    DataError : the shapes of prediction and float target differ, which would broadcast.
    """
    target = hx.asarray(target)
    loss: hx.Tensor
    if not hx.dtypes.is_floating(target.dtype):
        loss = hx.cross_entropy(prediction, target)
        return loss
    if prediction.shape != target.shape:
        raise DataError(
            f"fit: the model gives {prediction.shape}, the target is {target.shape}. "
            "Hint: reshape the target, or give a loss= of your own."
        )
    loss = hx.mse_loss(prediction, target)
    return loss


def moved(value: Any, device: Any) -> Any:
    """Return what a batch holds as Tensors on a device."""
    if isinstance(value, hx.Tensor):
        return value if device is None or value.device is device else value.to(device)
    if isinstance(value, Mapping):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(moved(part, device) for part in value)
    if not hasattr(value, "shape"):
        return value
    tensor = hx.asarray(value)
    return tensor if device is None else tensor.to(device)


def parts_of(batch: Any, name: str = "") -> Iterator[tuple[str, hx.Tensor]]:
    """Yield (name, Tensor) of what a batch holds."""
    if isinstance(batch, (Mapping, tuple)):
        named = batch.items() if isinstance(batch, Mapping) else enumerate(batch)
        for key, part in named:
            yield from parts_of(part, f"{name}.{key}" if name else str(key))
    elif isinstance(batch, hx.Tensor):
        yield name, batch
