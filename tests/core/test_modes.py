"""no_grad and enable_grad: nesting, decorating, threads."""

import contextvars
import threading

import pytest

import helixml as hx


@pytest.fixture
def x():
    return hx.tensor([1.0, 2.0], requires_grad=True)


def test_no_grad_records_nothing(x):
    with hx.no_grad():
        assert not hx.is_recording()
        y = x * 2
    assert hx.is_recording()
    assert not y.requires_grad
    assert y.is_leaf


def test_modes_nest_and_restore(x):
    with hx.no_grad():
        with hx.enable_grad():
            assert (x * 2).requires_grad
            with hx.no_grad():
                assert not (x * 2).requires_grad
            assert hx.is_recording()
        assert not hx.is_recording()
    assert hx.is_recording()


def test_one_mode_object_may_nest_in_itself():
    mode = hx.no_grad()
    with mode, mode:
        assert not hx.is_recording()
    assert hx.is_recording()


def test_modes_restore_after_an_exception():
    with pytest.raises(KeyError), hx.no_grad():
        raise KeyError
    assert hx.is_recording()


def test_modes_decorate(x):
    @hx.no_grad()
    def frozen(t):
        """Double."""
        return t * 2

    @hx.enable_grad()
    def live(t):
        return t * 2

    assert not frozen(x).requires_grad
    assert frozen.__name__ == "frozen"
    assert frozen.__doc__ == "Double."
    with hx.no_grad():
        assert live(x).requires_grad
    assert hx.is_recording()


def test_a_decorated_function_may_call_itself(x):
    @hx.no_grad()
    def down(n):
        assert not hx.is_recording()
        return n if n == 0 else down(n - 1)

    assert down(5) == 0
    assert hx.is_recording()


def test_leaves_made_without_recording_still_require_grad():
    with hx.no_grad():
        leaf = hx.tensor([1.0], requires_grad=True)
    (leaf * 2).sum().backward()
    assert leaf.grad.tolist() == [2.0]


def test_backward_works_inside_no_grad(x):
    y = (x * x).sum()
    with hx.no_grad():
        y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_new_thread_records():
    seen = []
    with hx.no_grad():
        thread = threading.Thread(target=lambda: seen.append(hx.is_recording()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_threads_do_not_disturb_each_others_modes(x):
    inside, leave = threading.Event(), threading.Event()

    def elsewhere():
        with hx.no_grad():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    inside.wait(10)
    assert (x * 2).requires_grad
    leave.set()
    thread.join()


def test_a_copied_context_takes_the_mode_along():
    with hx.no_grad():
        context = contextvars.copy_context()
    assert context.run(hx.is_recording) is False
    assert hx.is_recording()


def test_graphs_are_built_and_walked_in_parallel():
    shared = hx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    results = {}

    def work(number):
        own = hx.tensor([1.0, 1.0, 1.0], requires_grad=True)
        for _ in range(20):
            y = (hx.exp(shared * 0.0) * own * number).sum()
            y.backward()
        results[number] = own.grad.tolist()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [20.0 * n] * 3 for n in range(1, 7)}


def test_grads_of_a_shared_leaf_add_up_from_several_threads():
    shared = hx.tensor([1.0, 2.0], requires_grad=True)

    def work():
        for _ in range(50):
            (shared * 2).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.grad.tolist() == [400.0, 400.0]
