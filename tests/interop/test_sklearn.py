"""helixml's estimators among scikit-learn's own: its checks, its tools, its conventions."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import helixml as hx
from helixml.errors import DivergedError, ShapeError, ValueRangeError
from helixml.sklearn import Classifier, Regressor, SequenceClassifier

pytestmark = pytest.mark.usefixtures("plain_settings")

ESTIMATORS = [
    Classifier((16,), random_state=0, max_iter=20, learning_rate_init=0.05),
    Regressor((16,), random_state=0, max_iter=30, learning_rate_init=0.03),
    SequenceClassifier(8, 1, 4, random_state=0, max_iter=8, learning_rate_init=0.1),
]
# Every check passes; one that may fail would stand here in an ``expected_failed_checks``.
CHECKS = [
    pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.func.__name__}-{i}")
    for estimator in ESTIMATORS
    for i, (estimator, check) in enumerate(estimator_checks_generator(estimator))
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
@pytest.mark.filterwarnings("ignore")  # the checks provoke them
def test_scikit_learn_accepts(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def waves(n=60, length=24, seed=0):
    """Return sequences of two kinds, slow and fast, in two channels, and which they are."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    phase = rng.uniform(0, 6, (n, 1, 2))
    time = np.arange(length)[None, :, None]
    return np.sin(time * np.where(kind, 0.9, 0.3)[:, None, None] + phase), kind


def test_pipelines_searches_and_scores(iris):
    model = Classifier((8,), max_iter=30, learning_rate_init=0.03, random_state=0)
    assert cross_val_score(make_pipeline(StandardScaler(), model), *iris, cv=3).mean() > 0.9
    search = GridSearchCV(model, {"hidden_layer_sizes": [(4,), (8,)]}, cv=2).fit(*iris)
    assert search.best_params_["hidden_layer_sizes"] in [(4,), (8,)]
    probabilities = search.predict_proba(iris[0])
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_regression_of_one_and_of_several_numbers():
    X, y = make_regression(80, 5, n_targets=2, random_state=0)
    y = StandardScaler().fit_transform(y)
    model = Regressor((16,), max_iter=150, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.predict(X).shape == (80, 2)
    assert model.n_outputs_ == 2
    assert clone(model).fit(X, y[:, 0]).predict(X).shape == (80,)


def test_sequences_are_told_apart():
    X, y = waves()
    model = SequenceClassifier(8, 1, 4, max_iter=30, random_state=0).fit(X, y)
    assert model.score(*waves(seed=1)) > 0.9
    assert model.n_features_in_ == 2
    assert model.classes_.tolist() == [0, 1]


def test_padding_changes_nothing():
    X, y = waves(20)
    ragged = [x[: 10 + i % 7] for i, x in enumerate(X)]
    model = SequenceClassifier(8, 1, 4, max_iter=3, random_state=0).fit(ragged, y)
    alone = np.concatenate([model.predict_proba([x]) for x in ragged])
    np.testing.assert_allclose(model.predict_proba(ragged), alone, atol=1e-12)
    assert not np.allclose(model.predict_proba(X), alone)


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_one_random_state_gives_one_result(kind, iris):
    X, y = iris
    first, second, other = (kind((8,), max_iter=3, random_state=s).fit(X, y) for s in (1, 1, 2))
    assert np.array_equal(first.predict(X), second.predict(X))
    assert first.loss_curve_ == second.loss_curve_ != other.loss_curve_
    state = np.random.RandomState(3)
    hx.random.seed(5)  # helixml's own stream has no part in it
    again = kind((8,), max_iter=3, random_state=np.random.RandomState(3)).fit(X, y)
    assert kind((8,), max_iter=3, random_state=state).fit(X, y).loss_curve_ == again.loss_curve_


def test_the_dtype_of_the_data_is_that_of_the_network(iris):
    X, y = iris
    for dtype in (np.float32, np.float64):
        model = Classifier((4,), max_iter=2, random_state=0).fit(X.astype(dtype), y)
        assert model.network_.layers[0].weight.dtype == dtype
        assert model.predict_proba(X).dtype == dtype
    assert Classifier((4,), max_iter=2, random_state=0).fit(hx.asarray(X), y).score(X, y) > 0


def test_partial_fit_is_an_epoch_and_warm_start_goes_on(iris):
    X, y = iris
    model = Classifier((8,), random_state=0)
    with pytest.raises(ValueRangeError, match="classes must be passed on the first call"):
        model.partial_fit(X, y)
    for start in (0, 50, 100, 0, 50, 100):
        model.partial_fit(X[start : start + 50], y[start : start + 50], classes=[0, 1, 2])
    assert model.n_iter_ == 6
    with pytest.raises(ValueRangeError, match=r"y has classes beyond \[0 1 2\]"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueRangeError, match=r"classes=\[0, 1\] is not what it was"):
        model.partial_fit(X, y, classes=[0, 1])
    warm = Classifier((8,), max_iter=2, warm_start=True, random_state=0).fit(X, y).fit(X, y)
    assert warm.n_iter_ == 4
    whole = Classifier((8,), max_iter=4, random_state=0).fit(X, y)
    assert warm.loss_curve_ == whole.loss_curve_
    with pytest.raises(ValueRangeError, match="warm_start goes on with the classes"):
        warm.fit(X, y + 1)
    first = Regressor((8,), random_state=0).partial_fit(X, y.astype(float))
    with pytest.raises(ShapeError, match="y has 4 outputs, it was 1"):
        first.partial_fit(X, X)


@pytest.mark.parametrize("trip", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_predict_the_same_and_train_apart(trip, iris):
    X, y = iris
    model = Classifier((8,), max_iter=3, random_state=0).fit(X, y)
    before = model.predict_proba(X)
    other = trip(model)
    assert np.array_equal(other.predict_proba(X), before)
    other.partial_fit(X, y)
    assert np.array_equal(model.predict_proba(X), before)
    assert not np.array_equal(other.predict_proba(X), before)


def test_training_stops_when_the_loss_does(iris):
    model = Classifier((8,), max_iter=50, tol=1e9, n_iter_no_change=2, random_state=0).fit(*iris)
    assert model.n_iter_ == 3  # the first had nothing to compare with


def test_names_of_features_are_kept():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
    model = Classifier((4,), max_iter=2, random_state=0).fit(frame, ["x", "y", "x"])
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"a": "c"}))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Classifier(activation="sin"), r"activation='sin'\. Hint: one of gelu, relu, silu, tanh"),
        (Classifier(max_iter=0), r"max_iter=0"),
        (Regressor(batch_size=0), r"batch_size=0"),
        (Classifier((0,)), r"out_features=0"),
        (SequenceClassifier(n_layers=0), r"n_layers=0"),
        (SequenceClassifier(d_model=0), r"0, must be at least 1"),
        (Classifier(learning_rate_init=-1.0), r"lr=-1\.0"),
    ],
)
def test_settings_without_sense(model, message, iris):
    with pytest.raises(ValueRangeError, match=message):
        model.fit(*iris)


def test_without_scikit_learn_the_error_says_what_to_install():
    code = (
        "import sys\nsys.modules['sklearn'] = None\ntry:\n    import helixml.sklearn\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.startswith("MissingDependencyError helixml.sklearn: needs scikit-learn")
    assert "pip install 'helixml[sklearn]'" in said


def test_data_without_sense():
    X, y = waves(6)
    model = SequenceClassifier(4, 1, 2, max_iter=1, random_state=0)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ShapeError, match=r"\[1, 2\] features; all must have as many"):
        model.fit([X[0], X[1][:, :1]], [0, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, y[:3])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 0.9, np.nan, X), y)
    with pytest.raises(ValueError, match="infinity"):
        Classifier().fit(np.full((2, 2), np.inf), [0, 1])
    model.fit(X, y)
    with pytest.raises(ShapeError, match=r"shape \(24, 1\), but .* expecting steps of 2 features"):
        model.predict(X[:, :, :1])
    with pytest.raises(ValueError, match="expecting 2 features"):
        model.predict(X[:, :, 0])
    single = clone(model).fit(X[:, :, 0], y)
    with pytest.raises(ShapeError, match="expecting steps of single numbers"):
        single.predict(X)
    with pytest.raises(DivergedError, match="StandardScaler"):
        Regressor(random_state=0).fit([[1e200], [2e200]], [1e200, -1e200])
