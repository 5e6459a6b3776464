"""A training step of a byte-level Transformer in PyTorch.

256 features, 4 layers of 4 heads with 336 features between; learned positions; the embedding is
the output layer as well. Causal attention is the library's own kernel, AdamW its fused one.
"""

import torch
from torch import nn
from torch.nn import functional

from bench.peers import pytorch  # noqa: F401  sets the threads

FEATURES, LAYERS, HEADS, INNER = 256, 4, 4, 336


class Transformer(nn.Module):
    """Bytes in, logits of the next byte out."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, FEATURES)
        self.positions = nn.Parameter(torch.zeros(length, FEATURES))
        for parameter in (self.embedding.weight, self.positions):
            nn.init.normal_(parameter, std=0.02)
        layer = nn.TransformerEncoderLayer(
            FEATURES, HEADS, INNER, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(FEATURES)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        self.register_buffer("mask", mask)

    def forward(self, ids):
        x = self.embedding(ids) + self.positions
        x = self.layers(x, mask=self.mask, is_causal=True)
        return self.norm(x) @ self.embedding.weight.T


def training_step(windows):
    torch.manual_seed(0)
    ids = torch.tensor(windows)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].flatten()
    model = Transformer(inputs.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    count = sum(p.numel() for p in model.parameters() if p is not model.positions)

    def run():
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs).flatten(0, 1), targets)
        loss.backward()
        optimizer.step()
        return [count, loss]

    return run, None
