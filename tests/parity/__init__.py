"""The engine beside PyTorch, on the samples of PyTorch's own tests.

`table` says which function of helixml is which of PyTorch's, `exceptions` where they mean to
differ, `compare` runs both. ``python3 dev.py parity`` makes the environment and starts it.
"""
