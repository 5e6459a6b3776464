"""What every language model answers: drafts, beams and stored weights, whatever its state is."""

import numpy as np
import pytest

import helixml as hx
from helixml import models
from helixml.models import from_pretrained

IDS = hx.tensor([[1, 2, 3], [4, 5, 6]])
LLAMA = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MAMBA = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}
GPT2 = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
KINDS = {
    "falcon_mamba": (models.FalconMambaLM, models.FalconMambaConfig(**MAMBA)),
    "gpt2": (models.Gpt2LM, models.Gpt2Config(**GPT2)),
    "llama": (models.LlamaLM, models.LlamaConfig(**LLAMA)),
    "mamba": (models.MambaLM, models.MambaConfig(**MAMBA)),
    "mamba2": (models.Mamba2LM, models.Mamba2Config(**MAMBA, num_heads=8, head_dim=8, n_groups=1)),
    "qwen2": (models.LlamaLM, models.Qwen2Config(**LLAMA)),
    "rwkv": (models.RwkvLM, models.RwkvConfig(**MAMBA)),
}


def make(kind, seed=0):
    model, config = KINDS[kind]
    return model(config, rng=hx.random.Rng(seed)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_speculation_gives_the_greedy_text(kind):
    model, prompt = make(kind), IDS[:1]
    wanted = model.generate(prompt, 8, temperature=0.0)
    found = model.generate(prompt, 8, temperature=0.0, draft=make(kind, 1), draft_tokens=3)
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_read_as_a_chunk_is_but_for_its_last_logits_alone(kind):
    model = make(kind)
    with hx.no_grad():
        wanted, after = model.chunk(IDS, model.init_state(2))
        found, state = model.prefill(IDS, model.init_state(2))
        again, same = model.step(IDS[:, 0], after)[0], model.step(IDS[:, 0], state)[0]
    np.testing.assert_allclose(found.numpy(), wanted[:, -1].numpy(), rtol=1e-5, atol=1e-6)
    assert again.tolist() == same.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_beams_are_those_of_reading_the_texts_again(kind):
    model = make(kind)
    texts, scores = model.beam_search(IDS, 5, 3)
    flat = texts.reshape(6, 8)
    with hx.no_grad():
        logits = model(flat).numpy().astype(np.float64)[:, 2:-1]
    logp = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    found = np.take_along_axis(logp, flat.numpy()[:, 3:, None], axis=2).sum((1, 2))
    np.testing.assert_allclose(scores.numpy().ravel(), found, atol=2e-5)
    assert (np.diff(scores.numpy(), axis=1) <= 0).all()


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_weights_take_fewer_bytes_and_are_kept(kind, dtype, tmp_path):
    def size(model):
        return sum(tensor.nbytes for tensor in model.state_dict().values())

    model = make(kind)
    before, whole = model(IDS).numpy(), size(model)
    model.quantize(dtype)
    after = model(IDS).numpy()
    assert size(model) < {"int8": 0.4, "bfloat16": 0.6}[dtype] * whole
    assert 0 < np.abs(after - before).max() < 0.03 * np.abs(before).max()
    state = model.init_state(2)
    for place in range(3):
        logits, state = model.step(IDS[:, place], state)
    np.testing.assert_allclose(logits.numpy(), after[:, -1], rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(from_pretrained(tmp_path)(IDS).numpy(), after)


@pytest.mark.usefixtures("written_in_place")
@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_step_has_the_bits_of_the_step_itself(kind):
    def trained(capture):
        model = make(kind).train()
        optimizer = hx.optim.AdamW(model.parameters(), lr=1e-2)

        def step(ids):
            logits = model(ids[:, :-1])
            loss = hx.cross_entropy(logits.reshape(-1, 50), ids[:, 1:].reshape(-1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        step = hx.capture(step, strict=True) if capture else step
        losses = [step((IDS + i) % 50).item() for i in range(6)]
        return losses, [p.numpy().tobytes() for p in model.parameters()], step

    found, wanted = trained(True), trained(False)
    assert found[:2] == wanted[:2]
    assert found[2].replays == 3
