"""Normalisation, convolution, pooling and activation layers: what they refuse and remember.

Their values and gradients are held to PyTorch's in `test_torch_layers`.
"""

from functools import partial

import numpy as np
import pytest

import helixml as hx
from helixml import nn
from helixml.errors import DTypeError, ShapeError, ValueRangeError


@pytest.fixture
def rng():
    return hx.random.Rng(5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LayerNorm(0), r"LayerNorm: normalized_shape=0, at least 1"),
        (lambda: nn.LayerNorm(()), r"LayerNorm: normalized_shape=\(\)"),
        (lambda: nn.LayerNorm(3, eps=-1.0), r"LayerNorm: eps=-1.0 is negative"),
        (lambda: nn.LayerNorm(3, eps=float("nan")), r"LayerNorm: eps=nan"),
        (lambda: nn.GroupNorm(2, 5), r"num_groups=2 does not divide num_channels=5"),
        (lambda: nn.GroupNorm(0, 5), r"num_groups=0, must be at least 1"),
        (lambda: nn.BatchNorm1d(0), r"BatchNorm1d: num_features=0"),
        (lambda: nn.BatchNorm2d(3, momentum=1.5), r"BatchNorm2d: momentum=1.5 must be in \[0, 1\]"),
        (lambda: nn.InstanceNorm1d(3, eps=-1.0), r"InstanceNorm1d: eps=-1.0"),
        (lambda: nn.Conv1d(0, 1, 1), r"Conv1d: in_channels=0"),
        (lambda: nn.Conv2d(3, 4, 0), r"Conv2d: kernel_size=0, must be 2 of at least 1"),
        (lambda: nn.Conv2d(3, 4, (1, 2, 3)), r"Conv2d: kernel_size=\(1, 2, 3\), must be 2"),
        (lambda: nn.Conv3d(3, 4, 2, stride=0), r"Conv3d: stride=0"),
        (lambda: nn.Conv2d(3, 4, 2, padding=-1), r"Conv2d: padding=-1"),
        (lambda: nn.Conv2d(3, 4, 2, groups=2), r"groups=2 must divide in_channels=3 and out_ch"),
        (lambda: nn.Conv2d(3, 4, 2, padding="full"), r"padding='full'"),
        (lambda: nn.Conv2d(3, 4, 2, 2, padding="same"), r"'same' keeps sizes, stride=2 does not"),
        (lambda: nn.Conv2d(3, 4, 2, padding_mode="edge"), r"padding_mode='edge'. Hint: 'zeros'"),
        (lambda: nn.ConvTranspose2d(3, 4, 2, padding="same"), r"ConvTranspose2d: padding='same'"),
        (nn.Upsample, r"Upsample: size=None, scale_factor=None; give one of them"),
        (lambda: nn.Upsample(3, 2.0), r"Upsample: size=3, scale_factor=2.0; give one"),
        (lambda: nn.PixelShuffle(0), r"PixelShuffle: upscale_factor=0"),
        (lambda: nn.PixelUnshuffle(0), r"PixelUnshuffle: downscale_factor=0"),
        (lambda: nn.Softplus(0.0), r"Softplus: beta=0.0 must be above 0"),
        (lambda: nn.GELU("erf"), r"GELU: approximate='erf'"),
        (lambda: nn.PReLU(0), r"PReLU: num_parameters=0"),
        (lambda: nn.GatedFeedForward(3, 4, "tanh"), r"activation='tanh'. Hint: 'sigmoid'"),
        (lambda: nn.SwiGLU(3, 0), r"SwiGLU: hidden=0"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueRangeError, match=message):
        make()


def test_sizes_are_whole_numbers():
    with pytest.raises(DTypeError, match=r"Conv2d: kernel_size=\(1.5, 2\) must be int"):
        nn.Conv2d(3, 4, (1.5, 2))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.LayerNorm((4, 5)), (3, 5), r"LayerNorm: x is \(3, 5\), its last axes must be \(4, 5\)"),
        (nn.LayerNorm((4, 5)), (5,), r"its last axes must be \(4, 5\)"),
        (
            nn.GroupNorm(2, 4),
            (2, 6, 3),
            r"GroupNorm: x is \(2, 6, 3\), it must be \(b, 4, \.\.\.\)",
        ),
        (nn.BatchNorm2d(3), (3, 4, 4), r"BatchNorm2d: x is \(3, 4, 4\), it must be \(b, 3, h, w\)"),
        (nn.BatchNorm3d(3), (3, 4), r"it must be \(b, 3, d, h, w\)"),
        (nn.BatchNorm1d(3), (1, 3), r"has 1 entries for each mean.*Hint: more entries, or eval"),
        (nn.BatchNorm1d(3), (0, 3), r"has 0 entries for each mean"),
        (nn.InstanceNorm2d(3), (2, 3, 1, 1), r"has 1 entries for each mean"),
        (nn.InstanceNorm1d(3), (2, 3), r"it must be \(b, 3, l\)"),
        (nn.Conv2d(3, 4, 3), (3, 8, 8), r"Conv2d: x is \(3, 8, 8\), it must be \(b, 3, h, w\)"),
        (nn.Conv1d(3, 4, 3), (1, 2, 8), r"Conv1d: .* it must be \(b, 3, l\)"),
        (nn.Conv3d(3, 4, 3), (1, 2, 8), r"Conv3d: .* it must be \(b, 3, d, h, w\)"),
    ],
)
def test_other_shapes(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        layer(hx.ones(shape))


def test_norms_of_integers():
    with pytest.raises(DTypeError, match=r"BatchNorm1d: x must be a float, not int64"):
        nn.BatchNorm1d(3)(hx.ones((2, 3), dtype="int64"))


def test_a_batch_of_one_can_be_evaluated(rng):
    norm = nn.BatchNorm1d(3)
    norm(rng.normal((4, 3)))
    x = rng.normal((1, 3))
    wanted = (x - norm.running_mean) / hx.sqrt(norm.running_var + norm.eps)
    assert np.allclose(norm.eval()(x), wanted, atol=1e-6)


def test_running_statistics_are_not_on_the_tape_and_stay_the_same_objects(rng):
    norm = nn.BatchNorm2d(3)
    held = norm.running_mean
    norm(rng.normal((2, 3, 4, 4)).detach())
    assert norm.running_mean is held
    assert not held.requires_grad
    assert norm.num_batches_tracked.item() == 1


@pytest.mark.parametrize("way", ["checkpoint", "nested checkpoints", "reversible"])
def test_statistics_move_once_where_a_layer_is_run_again(rng, way):
    def made():  # what is called, the normalisation
        layer = nn.Sequential(nn.Linear(3, 3, rng=hx.random.Rng(0)), nn.BatchNorm1d(3))
        if way == "reversible":
            other = nn.Linear(3, 3, rng=hx.random.Rng(1))
            return nn.ReversibleSequence([nn.RevBlock(layer, other)]), layer[1]
        return layer, layer[1]

    x = rng.normal((5, 6 if way == "reversible" else 3))
    plain, wanted = made()
    with hx.no_grad():
        plain(x)
    stack, norm = made()
    if way == "nested checkpoints":
        stack = partial(hx.autograd.checkpoint, stack)
    y = stack(x) if way == "reversible" else hx.autograd.checkpoint(stack, x)
    y.sum().backward()
    assert norm.num_batches_tracked.item() == 1
    assert np.array_equal(norm.running_mean, wanted.running_mean)
    assert np.array_equal(norm.running_var, wanted.running_var)
    assert not hx.autograd.is_recomputing()


def test_evaluation_moves_no_statistics(rng):
    norm = nn.BatchNorm1d(3).eval()
    norm(rng.normal((4, 3)))
    assert norm.num_batches_tracked.item() == 0
    assert norm.running_mean.tolist() == [0.0, 0.0, 0.0]


def test_instance_norm_without_momentum_takes_the_mean_of_all_batches(rng):
    norm = nn.InstanceNorm1d(2, momentum=None, track_running_stats=True)
    batches = [rng.normal((3, 2, 5)) for _ in range(3)]
    for x in batches:
        norm(x)
    means = np.mean([x.numpy().mean((0, 2)) for x in batches], axis=0)
    variances = np.mean([x.numpy().var(2, ddof=1).mean(0) for x in batches], axis=0)
    assert np.allclose(norm.running_mean, means, atol=1e-6)
    assert np.allclose(norm.running_var, variances, atol=1e-6)


def test_transposed_convolution_makes_the_size_asked_for(rng):
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, rng=rng)
    x = rng.normal((1, 2, 4, 4))
    assert layer(x).shape == (1, 3, 7, 7)
    assert layer(x, output_size=(8, 7)).shape == (1, 3, 8, 7)
    assert np.allclose(layer(x, output_size=(8, 7))[:, :, :7], layer(x), atol=1e-6)
    with pytest.raises(ShapeError, match=r"output_size=\(9, 7\) .* from \[7, 7\] to \[8, 8\]"):
        layer(x, output_size=(9, 7))
    with pytest.raises(ShapeError, match=r"output_size=\(8,\)"):
        layer(x, output_size=(8,))


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions_start_within_the_bound_of_their_fan_in(layer):
    made = layer(12, 12, 5, groups=3, rng=hx.random.Rng(0))
    bound = 1 / np.sqrt(4 * 25)
    values = made.weight.numpy()
    assert np.abs(values).max() <= bound
    assert abs(values.std() - bound / np.sqrt(3)) < 0.02 * bound
    assert np.abs(made.bias.numpy()).max() <= bound
    again = layer(12, 12, 5, groups=3, rng=hx.random.Rng(0))
    assert again.weight.tolist() == made.weight.tolist()


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("relu", lambda x: np.maximum(x, 0)),
        ("none", lambda x: x),
    ],
)
def test_a_gated_block_is_its_formula(activation, function, rng):
    block = nn.GatedFeedForward(3, 5, activation, True, rng=rng).to(dtype="float64")
    x = rng.normal((2, 4, 3), dtype="float64")
    state = {name: value.numpy() for name, value in block.state_dict().items()}

    def project(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    gated = function(project("gate_proj", x.numpy())) * project("up_proj", x.numpy())
    assert np.allclose(block(x), project("down_proj", gated), rtol=1e-12, atol=1e-14)


def test_swiglu_and_geglu_are_gated_blocks(rng):
    x = rng.normal((2, 3))
    for made, activation in ((nn.SwiGLU, "silu"), (nn.GeGLU, "gelu")):
        block = made(3, 5, rng=hx.random.Rng(1))
        same = nn.GatedFeedForward(3, 5, activation, rng=hx.random.Rng(1))
        assert block(x).tolist() == same(x).tolist()
        assert list(block.state_dict()) == [
            "gate_proj.weight", "up_proj.weight", "down_proj.weight",
        ]  # fmt: skip


def test_softplus_does_not_overflow():
    assert nn.Softplus(2.0)(hx.tensor([1000.0, -1000.0])).tolist() == [1000.0, 0.0]


def test_repr_shows_settings():
    lines = [
        (nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)  0 parameters"),
        (nn.GELU("tanh"), "GELU(approximate=tanh)  0 parameters"),
        (nn.ReLU().eval(), "ReLU()  0 parameters"),
        (nn.LayerNorm(2), "LayerNorm((2,), eps=1e-05)  4 parameters"),
        (nn.BatchNorm1d(2), "BatchNorm1d(2, eps=1e-05, momentum=0.1)  4 parameters"),
        (nn.GroupNorm(1, 2), "GroupNorm(1, 2, eps=1e-05)  4 parameters"),
        (
            nn.Conv2d(2, 4, 1, 2, groups=2),
            "Conv2d(2 -> 4, kernel_size=(1, 1), stride=(2, 2), groups=2)  8 parameters",
        ),
        (nn.AdaptiveAvgPool2d(1).eval(), "AdaptiveAvgPool2d(output_size=1)  0 parameters"),
        (nn.Upsample(3), "Upsample(size=3, mode='nearest')  0 parameters"),
        (nn.Upsample(scale_factor=2), "Upsample(scale_factor=2, mode='nearest')  0 parameters"),
        (nn.PixelShuffle(2), "PixelShuffle(2)  0 parameters"),
        (nn.PixelUnshuffle(3), "PixelUnshuffle(3)  0 parameters"),
        (nn.SwiGLU(1, 1), "SwiGLU(activation='silu')  3 parameters"),
    ]
    for layer, wanted in lines:
        assert repr(layer).splitlines()[0] == wanted


def test_running_statistics_of_half_precision_are_those_of_float32(rng):
    norm = nn.BatchNorm1d(2, momentum=1.0)
    x = (100 * rng.normal((64, 2)) + 50).astype("float16")
    norm(x)
    assert norm.running_var.dtype == hx.float32
    assert np.allclose(norm.running_var, x.numpy().astype("float64").var(0, ddof=1), rtol=1e-5)
    assert np.allclose(norm.running_mean, x.numpy().astype("float64").mean(0), rtol=1e-5)


def test_no_pictures_move_no_statistics():
    norm = nn.InstanceNorm1d(2, track_running_stats=True)
    assert norm(hx.zeros((0, 2, 5))).shape == (0, 2, 5)
    assert norm.running_mean.tolist() == [0.0, 0.0]
    assert norm.num_batches_tracked.item() == 0
