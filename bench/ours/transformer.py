"""A training step of the Mamba language model in helixml."""

import helixml as hx


def training_step(windows):
    model = hx.models.MambaLM(hx.models.MambaConfig(), rng=hx.random.Rng(0))
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, targets = hx.tensor(windows[:, :-1]), hx.tensor(windows[:, 1:])
    count = sum(parameter.size for parameter in model.parameters())

    def run():
        optimizer.zero_grad()
        loss = hx.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return [count, loss]

    return run, None
