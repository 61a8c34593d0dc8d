"""What every network promises, whatever it is made of. Small ones, so that this takes seconds."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import hydra.utils
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from einthoven.errors import UserError
from einthoven.models.activations import ACTIVATIONS
from einthoven.models.blocks import to_image
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.inception1d import Inception1d
from einthoven.models.logistic import Logistic
from einthoven.models.norms import NORMS, TOKEN_NORMS
from einthoven.models.positions import POSITIONS
from einthoven.models.vit1d import ViT1d
from einthoven.models.wang import fcn_wang, resnet1d_wang
from einthoven.terminal.conf_folders import conf_folder

SMALL: dict[str, dict[str, Any]] = {  # option of conf/model -> what makes it small
    "conv_attention": {"channels": [8, 16, 16], "heads": 2},
    "xresnet1d18": {"width": 8, "hidden": 16},
    "xresnet1d50": {"width": 4, "hidden": 16},
    "xresnet1d101": {"width": 4, "hidden": 16},
    "resnet1d_wang": {"width": 16, "hidden": 16},
    "fcn_wang": {"channels": [16, 16, 16], "hidden": 16},
    "inception1d": {"filters": 8, "bottleneck": 8, "hidden": 16},
    "lstm": {"hidden": 16, "head_hidden": 16},
    "bilstm": {"hidden": 16, "head_hidden": 16},
    "s4d": {"width": 16, "depth": 2},
    "vit1d": {"dim": 16, "heads": 2, "depth": 2},
    "mlp": {"width": 32},
    "logistic": {},
}
CONFIGS = {path.stem: OmegaConf.load(path) for path in sorted((conf_folder() / "model").glob("*.yaml"))}
ALONG_TIME = ("unet1d",)  # a value for each sample: tests/models/test_unet1d.py
NETWORKS = [  # the others are fitted to features
    name for name, config in CONFIGS.items() if config.get("_partial_") and name not in ALONG_TIME
]
FIXED_LENGTH = ("mlp", "logistic")
NO_DROPOUT = {"dropout": 0.0, "drop_path": 0.0, "head_dropout": 0.0, "dropouts": [0.0, 0.0]}


def option(name: str, samples: int = 120, **options: Any) -> Callable[..., nn.Module]:
    """The model of conf/model/NAME.yaml at 100 Hz, with some options changed."""
    config = OmegaConf.create({"data": {"fs": 100.0}, "model": CONFIGS[name]})
    values = OmegaConf.to_container(config.model, resolve=True)
    assert isinstance(values, dict)
    target = hydra.utils.get_object(values.pop("_target_"))
    del values["_partial_"]
    unknown = set(options) - set(values)
    assert not unknown
    if "samples" in inspect.signature(target).parameters:  # as a run tells it
        values["samples"] = samples
    return partial(target, **values | options)


def small(name: str, channels: int = 12, classes: int = 5, **options: Any) -> nn.Module:
    """A small one, with weights that follow from the seed 0."""
    torch.manual_seed(0)
    return option(name, **SMALL.get(name, {}) | options)(channels, classes)


def without_dropout(name: str) -> dict[str, Any]:
    return {key: value for key, value in NO_DROPOUT.items() if key in CONFIGS[name]}


def options_of(key: str) -> list[str]:
    return [name for name in NETWORKS if key in CONFIGS[name]]


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("classes", "expected"), [(5, 1_872_261), (71, 1_880_775)])
def test_xresnet1d101_has_the_parameters_of_the_benchmark(classes, expected):
    # Counted by hand from the published layer sizes: convolutions without bias, a norm after each.
    def unit(inside: int, outside: int, kernel: int) -> int:
        return inside * outside * kernel + 2 * outside

    def bottleneck(before: int) -> int:
        body = unit(before, 64, 1) + unit(64, 64, 5) + unit(64, 256, 1)
        return body + (unit(before, 256, 1) if before != 256 else 0)

    stem = unit(12, 32, 5) + unit(32, 32, 5) + unit(32, 64, 5)
    trunk = bottleneck(64) + (3 + 4 + 23 + 3 - 1) * bottleneck(256)
    head = 2 * 512 + (512 * 128 + 128) + 2 * 128 + (128 * classes + classes)
    assert stem + trunk + head == expected
    assert count(option("xresnet1d101")(12, classes)) == expected


def test_logistic_is_linear_and_starts_at_even_odds():
    model = Logistic(12, 5, samples=250)
    x = torch.randn(4, 12, 250)
    assert count(model) == 12 * 250 * 5 + 5
    assert torch.equal(model(x).sigmoid(), torch.full((4, 5), 0.5))
    torch.nn.init.normal_(model.linear.weight)
    torch.testing.assert_close(model(2 * x), 2 * model(x), rtol=1e-4, atol=1e-4)


def test_logistic_refuses_another_length():
    with pytest.raises(UserError, match="250 samples and got 300"):
        Logistic(12, 5, samples=250)(torch.randn(1, 12, 300))


def test_conv_attention_trains_on_windows_and_evaluates_their_mean():
    torch.manual_seed(0)
    model = ConvAttention(8, 5, window=2.5)
    x = torch.randn(3, 8, 600)
    sizes = []
    for stage in (model.stem, model.attention):
        stage.register_forward_hook(lambda _module, inputs, _output: sizes.append(tuple(inputs[0].shape)))
    model(x)
    assert sizes == [(3, 8, 1, 250), (3, 32, 128)]
    logits = model.eval()(x)
    assert sizes[2:] == [(3, 8, 1, 600), (12, 32, 128)]
    tokens = model.conv(model.stem(to_image(x)))[:, :, 0].transpose(1, 2)
    read = [model.head(model.pool(model.attention(tokens[:, s : s + 32]))) for s in (0, 14, 28, 43)]
    torch.testing.assert_close(logits, torch.stack(read).mean(dim=0), rtol=1e-4, atol=1e-5)
    assert model.pieces(600) == ([0, 112, 224, 344], 256)


@pytest.mark.parametrize(("window", "samples"), [(None, 600), (2.5, 250), (2.5, 100)])
def test_conv_attention_reads_as_a_whole_what_is_no_longer_than_a_window(window, samples):
    torch.manual_seed(0)
    model = ConvAttention(8, 5, window=window).eval()
    x = torch.randn(3, 8, samples)
    tokens = model.conv(model.stem(to_image(x)))[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(model(x), model.head(model.pool(model.attention(tokens))))
    assert model.pieces(samples)[0] == [0] and model.pieces(samples)[1] >= samples


@pytest.mark.parametrize(
    ("name", "classes", "millions"),
    [
        ("xresnet1d101", 71, 1.88),
        ("xresnet1d101", 5, 1.87),
        ("inception1d", 5, 0.51),
        ("inception1d", 71, 0.52),
        ("resnet1d_wang", 5, 0.47),
    ],
)
def test_parameter_counts_are_the_published_ones(name, classes, millions):
    assert round(count(option(name)(12, classes)) / 1e6, 2) == millions


def test_other_parameter_counts_follow_from_the_published_layers():
    head = 2 * 256 + (256 * 128 + 128) + 2 * 128 + (128 * 5 + 5)  # norm, linear, norm, linear on 2 x 128 features
    fcn = (12 * 128 * 8 + 256) + (128 * 256 * 5 + 512) + (256 * 128 * 3 + 256)
    assert count(fcn_wang(12, 5)) == fcn + head
    stem = (12 * 128 * 7) + 256
    block = (128 * 128 * 5 + 256) + (128 * 128 * 3 + 256)
    assert count(resnet1d_wang(12, 5)) == stem + 3 * block + 2 * (128 * 128 + 256) + head
    inside = 32 * 32 * (39 + 19 + 9) + 256  # convolutions side by side, and the norm over them
    inception = (2 * 12 * 32 + inside) + 5 * (2 * 128 * 32 + inside) + (12 * 128 + 256) + (128 * 128 + 256)
    assert count(Inception1d(12, 5)) == inception + head
    stem = (12 * 32 * 5 + 64) + (32 * 32 * 5 + 64) + (32 * 64 * 5 + 128)
    blocks = 8 * 2 * (64 * 64 * 5 + 128)
    assert count(option("xresnet1d18")(12, 5)) == stem + blocks + 2 * 128 + (128 * 128 + 128) + 2 * 128 + (128 * 5 + 5)
    deep, deeper = (count(option(name)(12, 5)) for name in ("xresnet1d50", "xresnet1d101"))
    assert round(deep / 1e6, 2) == 0.95
    assert deeper - deep == 17 * (256 * 64 + 64 * 64 * 5 + 64 * 256 + 768)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (8, 71), (12, 5)])
def test_any_number_of_channels_and_classes(name, channels, classes):
    logits = small(name, channels, classes).eval()(torch.randn(2, channels, 120))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("samples", [250, 257, 1000])
def test_any_length_is_read_or_refused(name, samples):
    model, x = small(name).eval(), torch.randn(2, 12, samples)
    if name in FIXED_LENGTH:
        with pytest.raises(UserError, match=f"model={name} was built for windows of 120 samples and got {samples}"):
            model(x)
    else:
        assert model(x).shape == (2, 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stages_are_the_direct_children_in_forward_order(name):
    model, seen = small(name).eval(), []
    for stage, child in model.named_children():
        child.register_forward_hook(lambda *_, stage=stage: seen.append(stage))
    model(torch.randn(1, 12, 120))
    assert seen == [stage for stage, _ in model.named_children()]
    assert set(dict(model.named_parameters())) == {
        f"{s}.{n}" for s, c in model.named_children() for n, _ in c.named_parameters()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_seed_decides_the_weights_and_evaluation_is_deterministic(name):
    x = torch.randn(2, 12, 120)
    first, again = small(name).eval(), small(name).eval()
    assert torch.equal(first(x), again(x)) and torch.equal(first(x), first(x))
    torch.manual_seed(1)
    other = option(name, **SMALL.get(name, {}))(12, 5).eval()
    assert torch.equal(other(x), first(x)) == (name == "logistic")


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_does_not_look_at_the_neighbours_in_the_batch(name):
    model = small(name).eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    x = torch.randn(6, 12, 120)
    together = model(x)
    torch.testing.assert_close(together.flip(0), model(x.flip(0)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[2:3], model(x[2:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_starts_with_small_logits_and_gradients_everywhere(name):
    model = small(name)
    x, y = torch.randn(16, 12, 120), (torch.rand(16, 5) < 0.3).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert model(x).std() < 3
    for _ in range(2):  # the second step also reaches what lies behind weights that start at zero
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NETWORKS)
def test_sixteen_records_are_learnt_by_heart(name):
    model = small(name, **without_dropout(name))
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(16, 12, 120, generator=generator).cumsum(dim=2) / 5
    )  # as smooth as an ECG, nothing to learn but noise
    y = (torch.rand(16, 5, generator=generator) < 0.5).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss < 0.05:
            break
    assert loss < 0.05
    assert torch.equal((model(x) > 0).float(), y)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_stays_finite_and_near(name):
    model, x = small(name), torch.randn(4, 12, 120)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x).float().square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x).float()
    torch.testing.assert_close(found, model(x), rtol=0.1, atol=0.1)


def test_conv_attention_exports_with_its_windows():
    model = small("conv_attention").eval()
    x = torch.randn(3, 12, 600)
    exported = torch.export.export(model, (x[:2],), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", ["activation", "mlp_activation", "norm", "token_norm", "positions"])
def test_every_choice_makes_a_network_of_its_own(key):
    tokens = {"conv_attention": "token_norm", "vit1d": "norm", "s4d": "norm"}
    x = torch.randn(4, 12, 120)
    for name in options_of(key):
        known = {"positions": POSITIONS, "activation": tuple(ACTIVATIONS), "mlp_activation": tuple(ACTIVATIONS)}
        choices = known.get(key, TOKEN_NORMS if tokens.get(name) == key else NORMS)
        outputs = []
        for choice in choices:
            model = small(name, **{key: choice}, **without_dropout(name))
            logits = model(x)  # in training, where batch norm differs from none
            logits.sum().backward()
            assert logits.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters()), (name, choice)
            outputs.append(logits)
        for i, first in enumerate(outputs):
            assert not any(torch.allclose(first, other, atol=1e-6) for other in outputs[:i]), (name, choices[i])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mlp", {"activation": "swish"}, "activation=swish"),
        ("xresnet1d18", {"norm": "instance"}, "norm=instance"),
        ("xresnet1d18", {"kernel": 4}, r"model\.kernel=4"),
        ("xresnet1d18", {"dropouts": [0.5]}, r"dropouts=\[0.5\]"),
        ("fcn_wang", {"kernels": [5]}, "expected as many of both"),
        ("inception1d", {"depth": 4}, "expected a multiple of 3"),
        ("inception1d", {"kernels": [8]}, "expected odd numbers"),
        ("vit1d", {"dim": 18}, r"model\.dim=18"),
        ("vit1d", {"norm": "batch"}, "norm=batch: expected one of layer, rms, none"),
        ("s4d", {"norm": "group"}, "norm=group: expected one of layer, rms, none"),
        ("conv_attention", {"token_norm": "batch"}, "token_norm=batch"),
        ("conv_attention", {"positions": "absolute"}, "positions=absolute"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_sentence(name, options, expected):
    with pytest.raises(UserError, match=expected) as refusal:
        small(name, **options)
    assert "\n" not in str(refusal.value)


def test_learned_positions_are_as_many_as_the_tokens_of_a_window():
    assert ConvAttention(12, 5, positions="learned").attention[0].table.shape == (32, 128)  # 250 samples over 8
    assert ConvAttention(12, 5, positions="learned", window=None).attention[0].table.shape == (125, 128)
    assert ConvAttention(12, 5, positions="learned", samples=100).attention[0].table.shape == (13, 128)
    assert ViT1d(12, 5, samples=260).attention[0].table.shape == (11, 128)
