"""Greedy text of a Mamba language model in helixml."""

import helixml as hx
from bench.decoding import weights


def continuation(ids, sizes, stored, new):
    model = hx.models.MambaLM(hx.models.MambaConfig(**sizes), rng=hx.random.Rng(0))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights(shapes, stored))
    if stored:
        model.quantize(stored)
    prompt = hx.tensor(ids)
    return lambda: [model.generate(prompt, new, temperature=0)], None
