"""The matrix products of a step of the main job in NumPy, and nothing else."""

import numpy as np

# (out, in) of the four linear layers of each of four blocks, and of the tied output.
BLOCK = ((1024, 256), (48, 512), (512, 16), (256, 512))
WEIGHTS = 4 * BLOCK + ((256, 256),)


def training_step(size):
    n = int(np.prod(size))
    weights = [np.full(shape, 0.01, np.float32) for shape in WEIGHTS]
    x = {d: np.ones((n, d), np.float32) for shape in WEIGHTS for d in shape}
    count = sum(3 * n * out * inner for out, inner in WEIGHTS)

    def run():
        for w in weights:
            out, inner = w.shape
            _ = x[inner] @ w.T  # forward
            _ = x[out] @ w  # gradient of the input
            _ = x[out].T @ x[inner]  # gradient of the weight
        return [count]

    return run, None
