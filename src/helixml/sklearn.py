"""Estimators for scikit-learn: networks that stand in its pipelines, searches and scores.

`Classifier` and `Regressor` are multilayer perceptrons, `SequenceClassifier` is built of Mamba
blocks. Parameters have scikit-learn's names where it has them (those of ``MLPClassifier``); one
``random_state`` gives one result. Needs the extra ``helixml[sklearn]``; arrays are NumPy's at the
door and Tensors inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np

import helixml as hx
from helixml import nn, optim
from helixml.errors import DivergedError, MissingDependencyError, ShapeError, ValueRangeError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_array, check_consistent_length, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise MissingDependencyError(
        "helixml.sklearn: needs scikit-learn 1.6 or newer. Hint: pip install 'helixml[sklearn]'."
    ) from error

__all__ = ["Classifier", "Regressor", "SequenceClassifier"]

Array = np.ndarray
_FLOATS = (np.float64, np.float32)
_ACTIVATIONS = ("gelu", "relu", "silu", "tanh")
_ROWS = 1024  # predicted at a time


class _Perceptron(nn.Module):
    """Linear maps with an activation between them, (b, d) to (b, outputs)."""

    def __init__(self, sizes: Sequence[int], activation: str, rng: hx.random.Rng) -> None:
        self.layers = nn.ModuleList(nn.Linear(m, n, rng=rng) for m, n in pairwise(sizes))
        self.activation = activation

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        *inner, last = self.layers
        for layer in inner:
            x = getattr(hx, self.activation)(layer(x))
        y: hx.Tensor = last(x)
        return y


class _Reader(nn.Module):
    """Mamba blocks and the mean over the steps that count, (b, l, d) to (b, outputs)."""

    def __init__(
        self, features: int, outputs: int, width: int, blocks: int, states: int, rng: hx.random.Rng
    ) -> None:
        self.entrance = nn.Linear(features, width, rng=rng)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(blocks))
        self.blocks = nn.ModuleList(nn.MambaBlock(width, states, rng=rng) for _ in range(blocks))
        self.norm = nn.RMSNorm(width)
        self.exit = nn.Linear(width, outputs, rng=rng)

    def forward(self, x: hx.Tensor, counts: hx.Tensor) -> hx.Tensor:
        x = self.entrance(x)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        # What stands behind a step does not change it, so that padding only has to be left out.
        weights = counts / hx.sum(counts, axis=1, keepdims=True)  # (b, l)
        y: hx.Tensor = self.exit(hx.sum(self.norm(x) * weights[..., None], axis=1))
        return y


class _Trained(BaseEstimator):
    """What the estimators share: training by AdamW in shuffled batches, and prediction."""

    def _train(self, inputs: tuple[Array, ...], target: Array, epochs: int, anew: bool) -> Self:
        """Run epochs over the data, from a new network or with the one that there is."""
        if self.max_iter < 1 or (self.batch_size != "auto" and self.batch_size < 1):
            raise ValueRangeError(
                f"{type(self).__name__}: max_iter={self.max_iter}, batch_size={self.batch_size!r}; "
                "at least 1 each."
            )
        if anew:
            seed = check_random_state(self.random_state).randint(2**31)
            self._rng = hx.random.Rng(int(seed))
            self._dtype = inputs[0].dtype
            self.network_ = self._build(inputs[0].shape[-1], self._rng).to(dtype=self._dtype)
            self.loss_curve_: list[float] = []
            self.n_iter_ = 0
            self._optimizer: Any = None
        if getattr(self, "_optimizer", None) is None:
            self._optimizer = optim.AdamW(
                self.network_.parameters(), lr=self.learning_rate_init, weight_decay=self.alpha
            )
        data = [hx.asarray(x.astype(self._dtype, copy=False)) for x in inputs]
        wanted = hx.asarray(target)
        best, stale = np.inf, 0
        with hx.enable_grad():
            for _ in range(epochs):
                loss = self._epoch(data, wanted)
                self.loss_curve_.append(loss)
                self.n_iter_ += 1
                stale = stale + 1 if loss > best - self.tol else 0
                best = min(best, loss)
                if stale >= self.n_iter_no_change:
                    break
        self.loss_ = self.loss_curve_[-1]
        return self

    def _epoch(self, data: list[hx.Tensor], wanted: hx.Tensor) -> float:
        """Go once through the data in a new order and return the mean loss."""
        count = len(wanted)
        size = min(200, count) if self.batch_size == "auto" else self.batch_size
        order = self._rng.permutation(count)
        total = 0.0
        for start in range(0, count, size):
            rows = order[start : start + size]
            self._optimizer.zero_grad()
            loss = self._loss(
                self.network_(*[hx.take(x, rows, axis=0) for x in data]),
                hx.take(wanted, rows, axis=0),
            )
            loss.backward()
            self._optimizer.step()
            total += loss.item() * len(rows)
        if not np.isfinite(total):
            raise DivergedError(
                f"{type(self).__name__}: the loss of epoch {self.n_iter_ + 1} is {total}. "
                "Hint: scale the data (StandardScaler), or lower learning_rate_init."
            )
        return total / count

    def _outputs(self, inputs: tuple[Array, ...]) -> Array:
        """Return what the network gives for the rows of the inputs."""
        data = [hx.asarray(x.astype(self._dtype, copy=False)) for x in inputs]
        with hx.no_grad():
            parts = [
                self.network_(*[x[start : start + _ROWS] for x in data]).numpy()
                for start in range(0, len(data[0]), _ROWS)
            ]
        return np.concatenate(parts)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take with them: not the optimizer's moments."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_optimizer", None)
        return state


class _Tabular(_Trained):
    """A perceptron's parameters, and rows of features."""

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64,),
        activation: str = "silu",
        *,
        alpha: float = 1e-3,
        learning_rate_init: float = 1e-2,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state

    def _build(self, features: int, rng: hx.random.Rng) -> nn.Module:
        if self.activation not in _ACTIVATIONS:
            raise ValueRangeError(
                f"{type(self).__name__}: activation={self.activation!r}. "
                f"Hint: one of {', '.join(_ACTIVATIONS)}."
            )
        sizes = (features, *self.hidden_layer_sizes, self._width())
        return _Perceptron(sizes, self.activation, rng)

    def _rows(self, X: Any, y: Any, reset: bool, **options: Any) -> tuple[tuple[Array, ...], Any]:
        """Return the network's inputs and the target, checked."""
        X, y = validate_data(self, X, y, reset=reset, dtype=_FLOATS, **options)
        return (X,), y

    def _rows_only(self, X: Any) -> tuple[Array, ...]:
        check_is_fitted(self)
        return (validate_data(self, X, reset=False, dtype=_FLOATS),)


class _Classes(ClassifierMixin):
    """Classes as targets: cross-entropy in training, probabilities from the network."""

    def fit(self, X: Any, y: Any) -> Self:
        """Train on samples.

        Parameters
        ----------
        X : the samples. y : (n,), their classes, of any type that can be ordered.

        Returns
        -------
        The estimator.

        Raises
        ------
        ValueError : the data are not finite, or of the wrong shape. DivergedError : the loss is not
        finite.
        """
        known: Any = getattr(self, "classes_", None)
        goes_on = self.warm_start and known is not None
        inputs, y = self._rows(X, y, reset=not goes_on)
        check_classification_targets(y)
        classes = np.unique(y)
        if goes_on and not np.isin(classes, known).all():
            raise ValueRangeError(
                f"{type(self).__name__}: warm_start goes on with the classes {known}; y has others."
            )
        if not goes_on:
            self.classes_ = classes
        codes = np.searchsorted(self.classes_, y)
        return self._train(inputs, codes, self.max_iter, anew=not goes_on)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Go once through these samples, from where training stands.

        Parameters
        ----------
        X, y : as in `fit`. classes : all classes that will ever come; needed at the first call.

        Returns
        -------
        The estimator.
        """
        first = not hasattr(self, "network_")
        if first and classes is None:
            raise ValueRangeError(
                f"{type(self).__name__}: classes must be passed on the first call to partial_fit."
            )
        inputs, y = self._rows(X, y, reset=first)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueRangeError(
                f"{type(self).__name__}: classes={classes} is not what it was, {self.classes_}."
            )
        if not np.isin(y, self.classes_).all():
            raise ValueRangeError(f"{type(self).__name__}: y has classes beyond {self.classes_}.")
        return self._train(inputs, np.searchsorted(self.classes_, y), 1, anew=first)

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (n, classes), in the order of ``classes_``."""
        logits = hx.asarray(self._outputs(self._rows_only(X)))
        probabilities: Array = hx.softmax(logits, axis=-1).numpy(copy=True)
        return probabilities

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each sample, (n,)."""
        logits = self._outputs(self._rows_only(X))
        return np.asarray(self.classes_[logits.argmax(axis=1)])

    def _width(self) -> int:
        return len(self.classes_)

    def _loss(self, logits: hx.Tensor, codes: hx.Tensor) -> hx.Tensor:
        loss: hx.Tensor = hx.cross_entropy(logits, codes)
        return loss


class Classifier(_Classes, _Tabular):
    """A multilayer perceptron that tells classes apart.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, features of the layers between input and output.
    activation : "silu", "gelu", "relu" or "tanh".
    alpha : weight decay of AdamW.
    learning_rate_init : its learning rate.
    batch_size : int, or "auto" for at most 200.
    max_iter : the most epochs.
    tol, n_iter_no_change : training ends when so many epochs in a row lowered the loss by less.
    warm_start : another `fit` goes on with the network that there is.
    random_state : int, ``numpy.random.RandomState`` or None.

    Attributes
    ----------
    classes_ : (classes,). network_ : Module. loss_, loss_curve_ : float, and one for each epoch.
    n_iter_ : epochs so far. n_features_in_, feature_names_in_ : as everywhere in scikit-learn.

    Notes
    -----
    Computes in the dtype of X if that is float32 or float64, else in float64. Features should have
    about unit variance: put a ``StandardScaler`` before it.

    Examples
    --------
    >>> import numpy as np
    >>> from helixml.sklearn import Classifier
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> Classifier((8,), max_iter=100, random_state=0).fit(X, ["a", "b", "b", "a"]).predict(X)
    array(['a', 'b', 'b', 'a'], dtype='<U1')
    """


class Regressor(RegressorMixin, _Tabular):
    """A multilayer perceptron that predicts one number or several, by least squares.

    Parameters
    ----------
    hidden_layer_sizes, activation, alpha, learning_rate_init, batch_size, max_iter, tol,
    n_iter_no_change, warm_start, random_state : as in `Classifier`.

    Attributes
    ----------
    network_, loss_, loss_curve_, n_iter_, n_features_in_, feature_names_in_ : as in `Classifier`.
    n_outputs_ : numbers predicted for each sample.

    Notes
    -----
    Targets should have about unit variance too; ``TransformedTargetRegressor`` sees to it.

    Examples
    --------
    >>> import numpy as np
    >>> from helixml.sklearn import Regressor
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> bool(Regressor(random_state=0).fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.95)
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on samples.

        Parameters
        ----------
        X : (n, features). y : (n,) or (n, outputs).

        Returns
        -------
        The estimator.
        """
        goes_on = self.warm_start and hasattr(self, "network_")
        return self._learn(X, y, self.max_iter, anew=not goes_on)

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Go once through these samples, from where training stands."""
        return self._learn(X, y, 1, anew=not hasattr(self, "network_"))

    def predict(self, X: Any) -> Array:
        """Return the predicted numbers, (n,) or (n, outputs) as ``y`` was."""
        outputs = self._outputs(self._rows_only(X))
        return outputs[:, 0] if self._flat else outputs

    def _learn(self, X: Any, y: Any, epochs: int, anew: bool) -> Self:
        inputs, y = self._rows(X, y, reset=anew, multi_output=True, y_numeric=True)
        flat, width = y.ndim == 1, 1 if y.ndim == 1 else y.shape[1]
        if anew:
            self._flat, self.n_outputs_ = flat, width
        elif width != self.n_outputs_:
            raise ShapeError(f"Regressor: y has {width} outputs, it was {self.n_outputs_}.")
        dtype = inputs[0].dtype if anew else self._dtype
        return self._train(inputs, y.reshape(len(y), width).astype(dtype), epochs, anew)

    def _width(self) -> int:
        return self.n_outputs_

    def _loss(self, outputs: hx.Tensor, target: hx.Tensor) -> hx.Tensor:
        loss: hx.Tensor = hx.square(outputs - target).mean()
        return loss

    def __sklearn_tags__(self) -> Any:
        """Say that y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class SequenceClassifier(_Classes, _Trained):
    """Mamba blocks that tell sequences apart.

    Parameters
    ----------
    d_model : features inside.
    n_layers : Mamba blocks, each behind an RMSNorm and with a residual connection.
    d_state : states of each channel.
    alpha, learning_rate_init, batch_size, max_iter, tol, n_iter_no_change, warm_start,
    random_state : as in `Classifier`.

    Attributes
    ----------
    classes_, network_, loss_, loss_curve_, n_iter_ : as in `Classifier`.
    n_features_in_ : features of a step; of sequences of single numbers, their length.

    Notes
    -----
    Samples are an array (n, length, features), a list of n arrays (length, features) whose lengths
    differ, or an array (n, length) of sequences of single numbers. A shorter sequence is padded
    behind its end, where a causal layer does not look, and padding takes no part in the mean over
    the steps: it changes nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from helixml.sklearn import SequenceClassifier
    >>> X = np.sin(np.outer([0.2, 0.25, 0.9, 1.0], np.arange(20.0)))
    >>> SequenceClassifier(8, 1, max_iter=60, random_state=0).fit(X, [0, 0, 1, 1]).predict(X)
    array([0, 0, 1, 1])
    """

    def __init__(
        self,
        d_model: int = 32,
        n_layers: int = 2,
        d_state: int = 8,
        *,
        alpha: float = 1e-3,
        learning_rate_init: float = 1e-2,
        batch_size: int | str = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
    ) -> None:
        self.d_model = d_model
        self.n_layers = n_layers
        self.d_state = d_state
        self.alpha = alpha
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state

    def _build(self, features: int, rng: hx.random.Rng) -> nn.Module:
        if self.n_layers < 1:
            raise ValueRangeError(f"SequenceClassifier: n_layers={self.n_layers}, at least 1.")
        return _Reader(features, self._width(), self.d_model, self.n_layers, self.d_state, rng)

    def _rows(self, X: Any, y: Any, reset: bool) -> tuple[tuple[Array, ...], Any]:
        if not self._has_steps(X):
            X, y = validate_data(self, X, y, reset=reset, dtype=_FLOATS)
            inputs = self._checked(X[:, :, None], np.full(len(X), X.shape[1]), reset, True)
        else:
            inputs = self._checked(*self._padded(X), reset, False)
            y = column_or_1d(check_array(y, ensure_2d=False, dtype=None), warn=True)
            check_consistent_length(inputs[0], y)
        return inputs, y

    def _rows_only(self, X: Any) -> tuple[Array, ...]:
        check_is_fitted(self)
        if self._has_steps(X):
            return self._checked(*self._padded(X), False, False)
        X = validate_data(self, X, reset=False, dtype=_FLOATS)
        return self._checked(X[:, :, None], np.full(len(X), X.shape[1]), False, True)

    def _has_steps(self, X: Any) -> bool:
        """Say whether each sample has an axis of steps and one of features."""
        if isinstance(X, (list, tuple)):
            return len(X) > 0 and np.ndim(X[0]) == 2
        return getattr(X, "ndim", 2) == 3

    def _padded(self, X: Any) -> tuple[Array, Array]:
        """Return the samples in one array, zeros behind those that are shorter, and lengths."""
        if not isinstance(X, (list, tuple)):
            X = check_array(X, allow_nd=True, dtype=_FLOATS)
            return X, np.full(len(X), X.shape[1])
        parts = [check_array(x, dtype=_FLOATS) for x in X]
        if len({part.shape[1] for part in parts}) > 1:
            raise ShapeError(
                "SequenceClassifier: the samples have "
                f"{sorted({part.shape[1] for part in parts})} features; all must have as many."
            )
        lengths = np.array([len(part) for part in parts])
        whole = np.zeros((len(parts), lengths.max(), parts[0].shape[1]), np.result_type(*parts))
        for row, part in zip(whole, parts, strict=True):
            row[: len(part)] = part
        return whole, lengths

    def _checked(self, X: Array, lengths: Array, reset: bool, single: bool) -> tuple[Array, ...]:
        """Return the network's inputs: samples, and 1 at each step that counts."""
        if reset:
            self._single = single
            if not single:
                self.n_features_in_ = X.shape[2]
        elif single != self._single or not (single or X.shape[2] == self.n_features_in_):
            form = "single numbers" if self._single else f"{self.n_features_in_} features"
            raise ShapeError(
                f"X has samples of shape {X.shape[1:]}, but SequenceClassifier is expecting steps "
                f"of {form}."
            )
        counts = np.arange(X.shape[1]) < lengths[:, None]
        return X, counts.astype(X.dtype)

    def __sklearn_tags__(self) -> Any:
        """Say that samples may have two axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
