"""What sequence layers can learn: induction heads, selective copying, recall, digits.

Run it with ``python examples/learning_tasks.py TASK``: induction, copying, recall or digits. Each
takes minutes. The layers of a task have the same width, depth, data, steps and learning rate.
"""

import argparse
import time

import helixml as hx
from helixml import nn, optim, synthetic
from helixml.synthetic import NO_ANSWER
from helixml.training import metrics


class Tagger(nn.Module):
    """Scores for each step of a sequence: an embedding, layers with residual paths, a map."""

    def __init__(self, embedding, layers, width, classes, *, rng):
        self.embedding = embedding
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in layers)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, classes, rng=rng)

    def forward(self, tokens):
        """Read whole sequences, (b, l, ...); give scores, (b, l, classes)."""
        x = self.embedding(tokens)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(norm(x))
        return self.head(self.norm(x))

    def chunk(self, tokens, states):
        """Read a piece of sequences from the layers' states."""
        x = self.embedding(tokens)
        after = []
        for norm, layer, before in zip(self.norms, self.layers, states, strict=True):
            y, state = layer.chunk(norm(x), before)
            x = x + y
            after.append(state)
        return self.head(self.norm(x)), after


LAYERS = {
    "attention": lambda width, length, rng: nn.MultiHeadAttention(
        width, width // 16, rotary=nn.Rotary(nn.rotary_frequencies(16)), rng=rng
    ),
    "H3": lambda width, length, rng: nn.H3(width, 16, shift_state=4, head_dim=8, rng=rng),
    "Hyena": lambda width, length, rng: nn.HyenaOperator(width, length, rng=rng),
    "Mamba": lambda width, length, rng: nn.MambaBlock(width, rng=rng),
    "S4D": lambda width, length, rng: nn.S4DBlock(width, rng=rng),
}


def tagger(layer, vocabulary, width, length):
    """Make a model of two layers for tokens, the same each time."""
    rng = hx.random.Rng(0)
    layers = [LAYERS[layer](width, length, rng) for _ in range(2)]
    embedding = nn.Embedding(vocabulary, width, rng=rng)
    return Tagger(embedding, layers, width, vocabulary, rng=rng)


def answers_loss(scores, answers):
    """Return the mean cross entropy where there are answers."""
    return hx.cross_entropy(scores, answers, NO_ANSWER)


def train(model, batches, *, steps, lr, eps=1e-8, loss=answers_loss):
    """Train on a stream of batches; return seconds."""
    started = time.perf_counter()
    hx.fit(
        model,
        batches,
        optimizer=optim.AdamW(model.parameters(), lr=lr, eps=eps),
        schedule=optim.WarmupCosine(lr, 50, steps, final_ratio=0.1),
        steps=steps,
        loss=loss,
        clip_norm=1.0,
    )
    return time.perf_counter() - started


def accuracy(model, tokens, answers):
    """Return the share of right answers."""
    counted = metrics.Accuracy(ignore_index=NO_ANSWER)
    with hx.no_grad():
        for i in range(0, len(tokens), 32):
            counted.update(model(tokens[i : i + 32]), answers[i : i + 32])
    return counted.compute()


def accuracy_in_pieces(model, tokens, answers, piece=2048):
    """Return the share of right answers, from states: memory does not grow with the length."""
    counted = metrics.Accuracy(ignore_index=NO_ANSWER)
    states = [layer.init_state(len(tokens)) for layer in model.layers]
    with hx.no_grad():
        for i in range(0, tokens.shape[1], piece):
            scores, states = model.chunk(tokens[:, i : i + piece], states)
            counted.update(scores, answers[:, i : i + piece])
    return counted.compute()


def growing(make, length, *, shortest, batch, steps, full):
    """Yield batches of ever longer sequences; from the step ``full`` on they have their length.

    Shorter ones come in larger batches: all batches have equally many tokens.
    """
    lengths = [shortest]
    while lengths[-1] < length:
        lengths.append(2 * lengths[-1])
    for step in range(steps):
        now = lengths[min(step * (len(lengths) - 1) // full, len(lengths) - 1)]
        yield make(batch * length // now, now)


def show(name, model, right, steps, seconds):
    """Print a line of the table."""
    count = sum(parameter.size for parameter in model.parameters())
    print(
        f"{name}: accuracy {right:.4f}, {count} parameters, {steps} steps, {seconds:.0f} s",
        flush=True,
    )


def induction():
    """Train two layers of Mamba at length 256, ask them at hundreds of times that."""
    length, steps, powers = 256, 900, (6, 8, 10, 12, 14, 16)
    rng = hx.random.Rng(0)
    # Step sizes start so small that nothing is forgotten, and nothing written either, until the
    # model learns to. With lifetimes between 256 and 2^16 tokens it would go wrong at lengths at
    # which it was not trained: at 256 these do no harm that it could learn from.
    sizes = {"dt_min": 1e-13, "dt_max": 1e-11, "dt_floor": 1e-13}
    layers = [nn.MambaBlock(64, **sizes, rng=rng) for _ in range(2)]
    model = Tagger(nn.Embedding(16, 64, rng=rng), layers, 64, 16, rng=rng)
    data = hx.random.Rng(1)
    batches = growing(
        lambda rows, now: synthetic.induction_heads(rows, now, rng=data),
        length,
        shortest=8,
        batch=4,
        steps=steps,
        full=4 * steps // 10,  # what is learned at full length decides how far beyond it holds
    )
    seconds = train(model, batches, steps=steps, lr=5e-3, eps=1e-20)
    print(f"induction heads: trained at lengths up to {length}, chance {1 / 15:.4f}")
    asked = hx.random.Rng(2)
    for power in powers:
        rows = max(16, 2 ** min(8, 16 - power))
        tokens, answers = synthetic.induction_heads(rows, 2**power, rng=asked)
        right = accuracy_in_pieces(model, tokens, answers)
        show(f"Mamba, length 2^{power}", model, right, steps, seconds)


def copying():
    """Ask for data among noise: where they are differs, so what is read must decide."""
    length, copied, steps = 256, 4, 700
    print(f"selective copying: {copied} of {length} tokens, chance {1 / 14:.4f}")
    asked = synthetic.selective_copying(256, length, copied=copied, rng=hx.random.Rng(1))
    for layer in ("Mamba", "S4D", "Hyena"):
        data = hx.random.Rng(2)
        model = tagger(layer, 16, 64, length + copied)
        batches = growing(
            lambda rows, now, data=data: synthetic.selective_copying(
                rows, now, copied=copied, rng=data
            ),
            length,
            shortest=8,
            batch=8,
            steps=steps,
            full=7 * steps // 10,
        )
        seconds = train(model, batches, steps=steps, lr=5e-3)
        show(layer, model, accuracy(model, *asked), steps, seconds)


def recall():
    """Ask which value a key has: the pairs are drawn anew for each sequence."""
    pairs, steps = 16, 2000
    print(f"associative recall: {pairs} pairs of 10 keys and 10 values, chance {1 / 10:.4f}")
    asked = synthetic.associative_recall(512, pairs, rng=hx.random.Rng(1))
    for layer in ("attention", "H3", "Mamba", "S4D"):
        data = hx.random.Rng(2)
        model = tagger(layer, 20, 32, 2 * pairs + 1)
        batches = (synthetic.associative_recall(32, pairs, rng=data) for _ in range(steps))
        seconds = train(model, batches, steps=steps, lr=5e-3)
        show(layer, model, accuracy(model, *asked), steps, seconds)


def shifted(pictures, rng):
    """Move pictures, (b, 8, 8), by up to one point in each direction."""
    b = len(pictures)
    margins = hx.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, (2, b, 1)) + hx.arange(8)  # (b, 8) each
    return margins[hx.arange(b).reshape(b, 1, 1), hx.expand_dims(down, 2), hx.expand_dims(right, 1)]


def digits():
    """Read pictures of 8 x 8 points one point at a time; scikit-learn has them."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures, classes = hx.tensor(found.images / 16, dtype="float32"), hx.tensor(found.target)
    order = hx.random.Rng(0).permutation(len(classes))
    learned, asked = order[:1437], order[1437:]
    epochs, batch, width = 24, 50, 64
    rng = hx.random.Rng(1)
    layers = [nn.S4DBlock(width, 16, dt_min=0.01, dt_max=0.5, rng=rng) for _ in range(2)]
    model = Tagger(nn.Linear(1, width, rng=rng), layers, width, 10, rng=rng)

    def batches():
        data = hx.random.Rng(2)
        for _ in range(epochs):
            mixed = hx.take(learned, data.permutation(len(learned)), axis=0)
            for i in range(0, len(learned) - batch + 1, batch):
                rows = mixed[i : i + batch]
                moved = shifted(hx.take(pictures, rows, axis=0), data)
                yield moved.reshape(batch, 64, 1), hx.take(classes, rows, axis=0)

    def mean_loss(scores, target):
        return hx.cross_entropy(scores.mean(axis=1), target)

    steps = epochs * (len(learned) // batch)
    seconds = train(model, batches(), steps=steps, lr=1e-2, loss=mean_loss)
    with hx.no_grad():
        scores = model(hx.take(pictures, asked, axis=0).reshape(len(asked), 64, 1)).mean(axis=1)
    counted = metrics.Accuracy()
    counted.update(scores, hx.take(classes, asked, axis=0))
    print(f"digits: {len(learned)} to learn from, {len(asked)} held out, chance {1 / 10:.4f}")
    show("S4D", model, counted.compute(), steps, seconds)


if __name__ == "__main__":
    tasks = {task.__name__: task for task in (induction, copying, recall, digits)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=tasks)
    tasks[parser.parse_args().task]()
