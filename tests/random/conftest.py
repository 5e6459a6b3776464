"""Philox4x32-10 in plain Python integers: slow, scalar, independent of the library."""

from types import SimpleNamespace

import pytest

MASK = 0xFFFFFFFF


@pytest.fixture
def philox():
    """Give ``block(key, counter)`` and ``words(key, counter, count)``."""
    return SimpleNamespace(block=block, words=words)


def block(key, counter):
    """Return the four words for a key (two words) and a counter (four words)."""
    k0, k1 = key
    x0, x1, x2, x3 = counter
    for _ in range(10):
        first, second = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = (
            (second >> 32) ^ x1 ^ k0,
            second & MASK,
            (first >> 32) ^ x3 ^ k1,
            first & MASK,
        )
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [x0, x1, x2, x3]


def words(key, counter, count):
    """Return ``count`` words from the 128-bit integer ``counter`` on."""
    found = []
    while len(found) < count:
        found += block(key, [(counter >> shift) & MASK for shift in (0, 32, 64, 96)])
        counter = (counter + 1) % 2**128
    return found[:count]
