"""The words of Philox4x32-10: known answers, carries, counters."""

import pytest

import helixml as hx
from helixml import config
from helixml.backends import registry

# From Random123's kat_vectors file (Salmon et al. 2011): counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
DEVICES = ["cpu", "reference", "array_api_strict"]


def numbers(text):
    return [int(word, 16) for word in text.split()]


def as_integer(words):
    return sum(word << 32 * i for i, word in enumerate(words))


def backend_of(device):
    report = registry.available()[device]
    if report != "ok":
        pytest.skip(report)
    return registry.get(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(device, counter, key, result):
    backend = backend_of(device)
    found = backend.philox(tuple(numbers(key)), as_integer(numbers(counter)), 1)
    assert backend.to_numpy(found).tolist() == [numbers(result)]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers_of_the_tests_own_philox(philox, counter, key, result):
    assert philox.block(numbers(key), numbers(counter)) == numbers(result)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "counter", [0, 2**32 - 2, 2**64 - 2, 2**96 - 2, 2**128 - 2, 0x123456789ABCDEF0FEDCBA9876543210]
)
def test_counters_carry(philox, device, counter):
    backend = backend_of(device)
    found = backend.to_numpy(backend.philox((7, 9), counter, 4)).reshape(-1).tolist()
    assert found == philox.words((7, 9), counter, 16)


def test_bits_continue_at_the_next_block(philox):
    rng = hx.random.Rng(3)
    first, second = rng.bits((5,)), rng.bits((4,))
    assert first.tolist() == philox.words((3, 0), 0, 5)
    assert second.tolist() == philox.words((3, 0), 2, 4)  # 5 words take two blocks
    assert rng.state == {"key0": 3, "key1": 0, "counter": 3}


def test_large_seeds_fill_both_words_of_the_key(philox):
    rng = hx.random.Rng(2**63 + 5)
    assert rng.state == {"key0": 5, "key1": 2**31, "counter": 0}
    assert rng.bits((2,)).tolist() == philox.words((5, 2**31), 0, 2)


@pytest.mark.parametrize("device", DEVICES)
def test_integers_uniforms_and_masks_have_the_same_bits_on_every_device(device):
    backend_of(device)

    def draw(where):
        rng = hx.random.Rng(11)
        parts = [
            rng.integers(0, 1000, (7,), device=where),
            rng.uniform((5,), device=where),
            rng.uniform((5,), -1.0, 3.0, dtype="float64", device=where),
            rng.bernoulli(0.3, (9,), device=where),
            rng.permutation(10, device=where),
            hx.ops.dropout(hx.ones((12,), device=where), 0.5, rng=rng),
        ]
        return [part.numpy().tobytes() for part in parts]

    assert draw(device) == draw("cpu")


def test_numbers_do_not_depend_on_the_number_of_threads():
    drawn = []
    for threads in (1, 4):
        with config.using(num_threads=threads):
            drawn.append(hx.random.Rng(5).uniform((10_000,)).numpy().tobytes())
    assert drawn[0] == drawn[1]
