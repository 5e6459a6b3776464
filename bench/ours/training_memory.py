"""A training step of the Mamba language model in helixml, activations kept or computed again."""

import helixml as hx


def training_step(windows, recompute):
    model = hx.models.MambaLM(hx.models.MambaConfig(), rng=hx.random.Rng(0))
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    update = hx.training.Update(model, optimizer, _loss, recompute=recompute)
    batch = hx.tensor(windows[:, :-1]), hx.tensor(windows[:, 1:])
    count = sum(parameter.size for parameter in model.parameters())
    return lambda: [count, update.step([batch]).loss], None


def _loss(model, batch):
    inputs, targets = batch
    return hx.cross_entropy(model(inputs), targets)
