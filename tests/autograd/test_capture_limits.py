"""What a captured step refuses, calls in every replay, and leaves behind."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from captured_cases import batch, equal, follow, mlp, same_state, twins

import helixml as hx
from helixml.backends import registry
from helixml.errors import GraphError, HelixWarning, IndexingError, InplaceError, ShapeError

# What cannot be replayed


def reading(how):
    def step(x):
        y = x * 2
        return y * how(y)

    return step


@pytest.mark.parametrize(
    "how",
    [
        lambda y: y.sum().item(),
        lambda y: 1.0 if bool(hx.any(y > 0)) else 2.0,
        lambda y: float(y.numpy().sum()),
        lambda y: float(np.asarray(y).sum()),
        lambda y: len(hx.nonzero(y)[0]),
        lambda y: y.tolist()[0],
        lambda y: len(repr(y)),
    ],
)
def test_a_step_that_looks_at_values_runs_uncaptured_and_says_so_once(how):
    step = reading(how)
    captured = hx.capture(step)
    with pytest.warns(HelixWarning, match=r"capture: values are read by Python at .*test_capture"):
        for i in range(4):
            x = hx.tensor([i - 1.0, 2.0])
            assert equal(captured(x), step(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captured(hx.tensor([5.0, 5.0]))
    assert captured.replays == 0
    assert "values are read" in captured.reason


def test_strict_raises_instead():
    captured = hx.capture(reading(lambda y: y.sum().item()), strict=True)
    captured(hx.tensor([1.0]))
    with pytest.raises(GraphError, match=r"cannot be replayed. Hint: .*uncaptured"):
        captured(hx.tensor([1.0]))


def test_a_number_that_changes_is_no_constant():
    count = iter(range(100))
    captured = hx.capture(lambda x: x * next(count))
    x = hx.tensor([1.0])
    with pytest.warns(HelixWarning, match=r"it takes .* from Python where it took"):
        assert [captured(x).item() for _ in range(12)] == list(range(12))
    assert captured.replays == 0


def test_a_tensor_that_is_carried_from_step_to_step_is_no_constant():
    kept = [hx.tensor([0.0])]

    def step(x):
        kept[0] = kept[0] + x
        return kept[0] * 1

    captured = hx.capture(step)
    with pytest.warns(HelixWarning, match=r"reads a tensor of shape \(1,\) that is"):
        assert [captured(hx.tensor([1.0])).item() for _ in range(12)] == list(range(1, 13))


def test_an_array_put_into_a_tensor_from_outside_is_refused():
    state = hx.tensor([0.0, 0.0])

    def step(x):
        state[0] = x[0]
        return state * 1

    captured = hx.capture(step)
    with pytest.warns(HelixWarning, match=r"is given another array \(x\[i\] = v\)"):
        for i in range(5):
            assert captured(hx.tensor([float(i)])).tolist() == [i, 0.0]


def test_a_result_that_requires_a_gradient_is_refused():
    w = hx.nn.Parameter([1.0])
    captured = hx.capture(lambda x: w * x)
    with pytest.raises(GraphError, match=r"shape \(1,\) that still requires a gradient.*detach"):
        captured(hx.tensor([1.0]))


@pytest.mark.usefixtures("written_in_place")
def test_results_are_detached_from_the_first_call_on():
    captured, _, _ = twins()
    assert not any(captured(*batch()).requires_grad for _ in range(5))


@pytest.mark.parametrize("argument", [np.ones(2), {1, 2}, bytearray(b"x")])
def test_arguments_that_can_change_unseen_run_uncaptured(argument):
    captured = hx.capture(lambda x, _: x * 2)
    name = type(argument).__name__
    with pytest.warns(HelixWarning, match=f"an argument is a {name}"):
        for _ in range(4):
            assert captured(hx.tensor([1.0]), argument).item() == 2.0
    with pytest.raises(GraphError, match=f"an argument is a {name}"):
        hx.capture(lambda x, _: x, strict=True)(hx.tensor([1.0]), argument)


def test_an_argument_with_a_graph_runs_uncaptured():
    w = hx.nn.Parameter([2.0])
    captured = hx.capture(lambda y: y.sum().backward())
    with pytest.warns(HelixWarning, match=r"computed from what requires a gradient"):
        for _ in range(4):
            w.grad = None
            captured(w * 3)
            assert w.grad.tolist() == [3.0]


def test_the_learning_rate_is_set_outside():
    own = mlp()

    def step(x, target):
        own[2].lr = 0.1
        return own[0](x, target)

    captured = hx.capture(step)
    with pytest.warns(HelixWarning, match=r"the learning rate is set within the step at"):
        for _ in range(3):
            captured(*batch())


@pytest.mark.usefixtures("written_in_place")
def test_tensors_that_are_hidden_from_the_collector_are_found():
    w = hx.nn.Parameter([1.0])

    def step(x):
        (w * x).sum().backward()
        with hx.no_grad():
            w.assign_(w - 0.1 * w.grad)
        w.grad = None

    captured = hx.capture(step)
    gc.collect()
    gc.freeze()
    try:
        for _ in range(6):
            captured(hx.tensor([1.0]))
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert w.item() == pytest.approx(0.4)
    assert captured.replays == 3


@pytest.mark.usefixtures("written_in_place")
def test_arrays_that_no_tensor_held_are_not_written():
    raw = registry.default().zeros((1,), dtype=hx.float32)

    def step(x):
        y = hx.Tensor(raw, x._backend)
        y.assign_(y + x)
        return y * 1

    captured = hx.capture(step)
    with pytest.warns(HelixWarning, match=r"an array is written that belongs to no tensor at"):
        assert [captured(hx.tensor([1.0])).item() for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_step_on_two_devices_runs_uncaptured(other_device):
    other = hx.ones((1,), device=other_device)
    captured = hx.capture(lambda x: (x * 2, other * 3))
    with pytest.warns(HelixWarning, match=r"there are tensors of two devices at"):
        for _ in range(4):
            assert [t.item() for t in captured(hx.tensor([1.0]))] == [2.0, 3.0]


def test_a_backend_that_gives_python_a_number_is_not_replayed(monkeypatch):
    backend = hx.ones(())._backend
    monkeypatch.setattr(backend, "cbrt", lambda x: 3.0, raising=False)
    captured = hx.capture(lambda x: x * backend.cbrt(x._array))
    with pytest.warns(HelixWarning, match=r"a backend gives Python a number at"):
        for _ in range(3):
            assert captured(hx.tensor([2.0])).item() == 6.0


def test_modules_that_change_in_every_step_are_not_recorded_for_ever():
    layer = hx.nn.Linear(2, 2)

    @hx.autograd.uncaptured
    def count():
        layer.count = 1

    captured = hx.capture(lambda x: [count(), layer(x).detach()][1])
    with pytest.warns(HelixWarning, match=r"modules change all the time"):
        for _ in range(20):
            captured(hx.ones((1, 2)))
    assert captured.recordings < 10


# Python that runs in every replay


def test_an_uncaptured_function_runs_in_every_replay():
    seen = []

    @hx.autograd.uncaptured
    def note(x, factor, *, name):
        seen.append((name, x.tolist()))
        return x * factor, {"twice": hx.tensor(2.0) * x}

    def step(x):
        y, more = note(x + 1, 3.0, name="here")
        return y - more["twice"]

    captured = hx.capture(step, strict=True)
    assert [captured(hx.tensor([float(i)])).tolist() for i in range(6)] == [
        [i + 1.0] for i in range(6)
    ]
    assert seen == [("here", [i + 1.0]) for i in range(6)]
    assert captured.replays == 3


@pytest.mark.usefixtures("written_in_place")
def test_an_uncaptured_function_sees_and_changes_gradients_and_leaves():
    def make():
        w = hx.nn.Parameter([1.0, -2.0])

        @hx.autograd.uncaptured
        def halve():
            w.grad = w.grad * 0.5
            with hx.no_grad():
                w.assign_(w * 0.9)

        def step(x):
            (w * w * x).sum().backward()
            halve()
            with hx.no_grad():
                w.assign_(w - 0.1 * w.grad)
            w.grad = None
            return w * 1.0 if not hx.is_recording() else w.detach() * 1.0

        return step, w

    (own, w), (other, v) = make(), make()
    captured = hx.capture(own, strict=True)
    for i in range(8):
        x = hx.tensor([1.0 + i, 2.0])
        assert equal(captured(x), other(x))
        assert equal(w, v)
        assert w.grad is None
    assert captured.replays == 5


def test_an_uncaptured_function_that_gives_python_a_number_prevents_replays():
    captured = hx.capture(lambda x: x * hx.autograd.uncaptured(lambda: 3.0)())
    with pytest.warns(HelixWarning, match=r"returns a float"):
        for _ in range(3):
            assert captured(hx.tensor([1.0])).item() == 3.0


def test_other_side_effects_happen_at_recordings_only():
    seen = []
    captured = hx.capture(lambda x: [seen.append(1), x * 2][1], strict=True)
    for _ in range(6):
        captured(hx.tensor([1.0]))
    assert len(seen) == 3


# Errors


def test_an_error_before_anything_changed_is_that_of_the_step_itself():
    table = hx.nn.Parameter(np.ones((4, 2), np.float32))
    captured = hx.capture(lambda ids: hx.take(table, ids, axis=0).sum().backward(), strict=True)
    for _ in range(5):
        captured(hx.tensor([0, 3]))
    before = table.grad.tolist()
    with pytest.raises(IndexingError, match=r"take: index 4 is out of range for axis 0"):
        captured(hx.tensor([0, 4]))
    assert table.grad.tolist() == before
    captured(hx.tensor([0, 1]))


def test_an_error_in_the_middle_leaves_what_the_step_would_have_left():
    def make():
        w = hx.nn.Parameter([1.0])
        optimizer = hx.optim.SGD([w], lr=0.5)

        @hx.autograd.uncaptured
        def check(x):
            if x.item() > 5:
                raise ValueError("too large")

        def step(x):
            (w * x).sum().backward()
            check(x)
            optimizer.step()
            optimizer.zero_grad()

        return step, w, optimizer

    own, other = make(), make()
    captured = hx.capture(own[0], strict=True)
    for value in (1.0, 2.0, 3.0, 4.0, 6.0):
        for step in (captured, other[0]):
            if value > 5:
                with pytest.raises(ValueError, match="too large"):
                    step(hx.tensor([value]))
            else:
                step(hx.tensor([value]))
    assert captured.replays == 1
    assert own[1].grad.tolist() == other[1].grad.tolist() == [6.0]
    assert equal(own[1], other[1])
    assert own[2].steps == other[2].steps == 4


def test_a_step_that_fails_while_it_is_recorded_can_be_done_again():
    captured = hx.capture(lambda x, y: x + y, strict=True)
    with pytest.raises(ShapeError):
        captured(hx.ones((2,)), hx.ones((3,)))
    with pytest.raises(ShapeError):
        captured(hx.ones((2,)), hx.ones((3,)))
    for _ in range(4):
        assert captured(hx.ones((2,)), hx.ones((2,))).tolist() == [2.0, 2.0]
    assert captured.replays == 1
    assert (hx.ones((2,)) + 1).tolist() == [2.0, 2.0]


@pytest.mark.usefixtures("written_in_place")
def test_values_saved_outside_and_overwritten_by_a_replay_are_missed():
    captured, own, _ = twins()
    for _ in range(4):
        captured(*batch())
    loss = (own[1][0].weight ** 2).sum()
    captured(*batch())
    with pytest.raises(InplaceError, match=r"overwritten in place by a captured step"):
        loss.backward()


@pytest.mark.usefixtures("written_in_place")
def test_arguments_may_be_written():
    def step(x, y):
        with hx.no_grad():
            x.assign_(x + y)
        return y * 2

    captured = hx.capture(step, strict=True)
    for i in range(6):
        x, y = hx.tensor([1.0, 2.0]), hx.tensor([float(i), 1.0])
        view = x.detach()
        kept = x[:1]
        assert captured(x, y).tolist() == [2.0 * i, 2.0]
        assert x.tolist() == [1.0 + i, 3.0]
        assert (view.tolist(), kept.tolist()) == ([1.0, 2.0], [1.0])
    assert captured.replays == 3


@pytest.mark.usefixtures("written_in_place")
def test_functional_gradients_are_captured():
    def make():
        w = hx.tensor([0.5, -0.25])
        loss = hx.value_and_grad(lambda w, x: (hx.sin(w * x) ** 2).sum())

        def step(x):
            value, slope = loss(w, x)
            w.assign_(w - 0.1 * slope)
            return value

        return step, w

    (own, w), (other, v) = make(), make()
    captured = hx.capture(own, strict=True)
    for i in range(8):
        x = hx.tensor([1.0 + i, 2.0])
        assert equal(captured(x), other(x))
        assert equal(w, v)
    assert captured.replays == 5


def test_results_own_their_memory():
    table = hx.tensor([1.0, 2.0, 3.0, 4.0])
    captured = hx.capture(
        lambda x: (table[:2], hx.tensor(1.0), x.reshape(1, 2), x + 0), strict=True
    )
    for _ in range(5):
        x = hx.tensor([5.0, 6.0])
        part, one, view, copied = captured(x)
        for tensor in (part, one, view, copied):
            tensor.assign_(hx.zeros(tensor.shape))
        assert table.tolist() == [1.0, 2.0, 3.0, 4.0]
        assert x.tolist() == [5.0, 6.0]
    assert captured(hx.tensor([5.0, 6.0]))[1].item() == 1.0
    assert captured.replays == 3


def test_other_threads_are_not_recorded():
    w, own = hx.nn.Parameter([1.0]), hx.nn.Parameter([2.0])
    done = threading.Event()

    def work():
        while not done.is_set():
            (w * w).sum().backward()
            w.grad = None

    thread = threading.Thread(target=work)
    thread.start()
    try:
        captured = hx.capture(lambda x: (own * x).sum().backward(), strict=True)
        for i in range(10):
            own.grad = None
            captured(hx.tensor([float(i)]))
            assert own.grad.tolist() == [i]
    finally:
        done.set()
        thread.join()
    assert captured.replays == 7


def test_other_threads_can_make_tuples_while_a_step_is_recorded():
    done, failures = threading.Event(), []

    def work():
        try:
            while not done.is_set():
                tuple(n for n in range(300))
        except SystemError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            captured = hx.capture(lambda x: x * 2, strict=True)
            for _ in range(3):
                captured(hx.tensor([1.0]))
    finally:
        done.set()
        thread.join()
    assert not failures


def test_on_another_backend_the_step_runs_itself_or_is_replayed():
    with hx.config.using(device="reference"):
        captured, own, other = twins()
        captured = hx.capture(own[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            follow(captured, own, other, 6)


def test_a_method_is_captured_with_its_object():
    class Model:
        def __init__(self, factor):
            self.factor = factor

        @hx.capture
        def double(self, x):
            return x * self.factor

    models = [Model(2.0), Model(3.0)]
    for i in range(6):
        x = hx.tensor([float(i)])
        assert [model.double(x).item() for model in models] == [2.0 * i, 3.0 * i]
    assert Model.double.replays == 6


# The object


def test_it_cannot_be_pickled_or_copied():
    captured = hx.capture(lambda x: x)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(GraphError, match=r"cannot be pickled or copied. Hint: pickle the step"):
            attempt(captured)


def test_it_is_a_decorator_with_the_name_of_its_step():
    @hx.capture(strict=True)
    def double(x):
        """Return twice x."""
        return x * 2

    @hx.capture
    def triple(x):
        return x * 3

    assert (double.__name__, double.__doc__) == ("double", "Return twice x.")
    assert triple(double(hx.tensor([1.0]))).item() == 6.0


def test_forgetting_begins_anew():
    factor = [2.0]
    captured = hx.capture(lambda x: x * factor[0], strict=True)
    x = hx.tensor([1.0])
    for _ in range(4):
        captured(x)
    factor[0] = 3.0
    assert captured(x).item() == 2.0  # a number that Python has is that of the recording
    captured.forget()
    assert captured(x).item() == 3.0
    assert captured.replays == 0


def test_one_captured_step_may_call_another():
    inner = hx.capture(lambda x: x * 2, strict=True)
    outer = hx.capture(lambda x: inner(x) + 1, strict=True)
    for i in range(8):
        assert outer(hx.tensor([float(i)])).item() == 2.0 * i + 1
    assert outer.replays == 5


@pytest.mark.usefixtures("written_in_place")
def test_threads_replay_steps_of_their_own():
    pairs = [twins(seed=seed) for seed in range(2)]
    failures = []
    end = time.monotonic() + 20  # while one is recorded, the other goes on uncaptured

    def work(captured, own, other):
        try:
            rng = np.random.default_rng(1)
            while captured.replays < 4 and time.monotonic() < end:
                x = hx.tensor(rng.standard_normal((4, 6)).astype(np.float32))
                target = hx.tensor(rng.integers(0, 5, 4))
                assert equal(captured(x, target), other[0](x, target).detach())
            same_state(own, other)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(captured.replays == 4 for captured, _, _ in pairs)


@pytest.mark.usefixtures("written_in_place")
def test_what_is_recorded_goes_with_the_step():
    captured, own, _ = twins()
    for _ in range(5):
        captured(*batch())
    before = own[1][0].weight
    count = len(gc.get_referrers(before))
    captured.forget()
    assert len(gc.get_referrers(before)) < count


def test_a_replay_needs_no_more_memory_than_the_step():
    w = [hx.nn.Parameter(np.eye(256, dtype=np.float32)) for _ in range(6)]
    optimizer = hx.optim.SGD(w, lr=0.1)

    def step(x):
        for weight in w:
            x = hx.tanh(x @ weight)
        loss = x.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    captured = hx.capture(step, strict=True)
    x = hx.ones((256, 256))
    for _ in range(4):
        captured(x)

    def peak(f):
        gc.collect()
        tracemalloc.start()
        try:
            f(x)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert captured.replays == 1
    assert peak(captured) <= peak(step) + 50_000
