"""Greedy text of a Mamba language model in transformers."""

import torch
from transformers import MambaConfig, MambaForCausalLM

from bench.decoding import weights
from bench.peers import pytorch  # noqa: F401  sets the threads


def continuation(ids, sizes, stored, new):
    model = MambaForCausalLM(MambaConfig(**sizes, state_size=16)).eval()
    parameters = dict(model.named_parameters())
    made = weights({name: tuple(p.shape) for name, p in parameters.items()}, stored)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.tensor(made[name]))
    prompt = torch.tensor(ids)

    @torch.no_grad()
    def run():
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        return [model.generate(prompt, max_new_tokens=new, **options)]

    return run, None
