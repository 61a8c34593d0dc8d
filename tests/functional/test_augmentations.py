import math

import numpy as np
import pytest
import torch
from scipy import stats

from einthoven.functional import augmentations as aug
from einthoven.functional.leads import derive_limb_leads

FS = 100.0
EVERY = {
    "amplitude_scale": aug.AmplitudeScale(0.3),
    "lead_scale": aug.AmplitudeScale(0.3, per_lead=True),
    "time_shift": aug.TimeShift(1.0, FS),
    "noise": aug.Noise(0.1),
    "baseline_wander": aug.BaselineWander(0.3, FS),
    "lead_dropout": aug.LeadDropout(0.3),
    "time_mask": aug.TimeMask(2.0, FS),
    "time_mask_all": aug.TimeMask(2.0, FS, per_lead=False),
    "mixup": aug.Mixup(0.4),
}
KEEPS_LAWS = ["amplitude_scale", "time_shift", "noise", "baseline_wander", "time_mask_all", "mixup"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lawful(batch: int, samples: int = 500) -> torch.Tensor:
    rng = np.random.default_rng(0)
    walk = 0.05 * rng.standard_normal((batch, 8, samples)).cumsum(axis=-1)
    limb = derive_limb_leads(walk[:, 0], walk[:, 1])
    return torch.from_numpy(np.concatenate([limb, walk[:, 2:]], axis=1)).float()


@pytest.fixture
def x() -> torch.Tensor:
    return lawful(16)


@pytest.fixture
def y() -> torch.Tensor:
    return (torch.rand(16, 5, generator=seeded(9)) < 0.3).float()


@pytest.mark.parametrize("transform", EVERY.values(), ids=EVERY)
class TestEvery:
    def test_keeps_shape_dtype_and_its_input(self, transform, x, y):
        x_before, y_before = x.clone(), y.clone()
        new_x, new_y = transform(x, y, seeded())
        assert new_x.shape == x.shape and new_x.dtype == x.dtype
        assert new_y.shape == y.shape and new_y.dtype == y.dtype
        assert not torch.equal(new_x, x)
        assert torch.equal(x, x_before) and torch.equal(y, y_before)

    def test_is_decided_by_the_generator_alone(self, transform, x, y):
        torch.manual_seed(1)
        first = transform(x, y, seeded(3))
        torch.manual_seed(2)
        state = torch.get_rng_state()
        again = transform(x, y, seeded(3))
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
        assert not torch.equal(first[0], transform(x, y, seeded(4))[0])

    def test_treats_every_place_in_the_batch_alike(self, transform):
        # The same record everywhere: the change has the same mean size in both halves of the batch.
        record = lawful(1)
        x = record.expand(512, -1, -1)
        if isinstance(transform, aug.Mixup):
            x = x * torch.randn(512, 1, 1, generator=seeded(8))
        size = (transform(x, torch.zeros(512, 2), seeded())[0] - x).pow(2).mean(dim=(1, 2)).sqrt()
        assert stats.ks_2samp(size[:256].numpy(), size[256:].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", [name for name in EVERY if name not in {"lead_dropout"}])
def test_probability_is_the_share_of_records_touched(name):
    transform = EVERY[name]
    x, y = lawful(1).expand(2000, -1, -1).clone(), torch.zeros(2000, 2)
    x = x * torch.linspace(1, 2, 2000)[:, None, None]
    never, always, some = (
        type(transform)(**{**transform.__dict__, "probability": p})(x, y, seeded())[0] for p in (0.0, 1.0, 0.3)
    )
    touched = [(out != x).flatten(1).any(dim=1).float().mean().item() for out in (never, some, always)]
    assert torch.equal(never, x)
    assert touched[2] > 0.95
    assert touched[1] == pytest.approx(0.3 * touched[2], abs=5 * math.sqrt(0.21 / 2000))


def test_probability_of_lead_dropout_is_that_of_a_lead():
    out = aug.drop_leads(torch.ones(2000, 12, 4), 0.2, seeded())
    dropped = (out == 0).all(dim=2)
    assert torch.equal(dropped, (out == 0).any(dim=2))
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / 24000))
    # Leads go independently of each other: the count in a record is binomial.
    assert dropped.sum(dim=1).float().var().item() == pytest.approx(12 * 0.16, rel=0.2)


@pytest.mark.parametrize("name", EVERY)
def test_limb_lead_laws_survive_where_they_should(name, x, y):
    out = EVERY[name](x, y, seeded())[0].double().numpy()
    law = derive_limb_leads(out[:, 0], out[:, 1])
    error = np.abs(out[:, :6] - law).max()
    if name in KEEPS_LAWS:
        assert error < 1e-5
    else:
        assert error > 1e-2


def test_amplitude_scale_is_one_gain_per_record_log_uniform():
    out = aug.scale_amplitude(torch.ones(3000, 12, 3), 0.4, seeded())
    assert (out == out[:, :1, :1]).all()
    assert stats.kstest(out[:, 0, 0].log().numpy(), stats.uniform(-0.4, 0.8).cdf).pvalue > 1e-3


def test_lead_scale_is_one_gain_per_lead():
    out = aug.scale_amplitude(torch.ones(3000, 12, 3), 0.4, seeded(), per_lead=True)
    assert (out == out[:, :, :1]).all()
    correlation = np.corrcoef(out[:, :, 0].log().numpy().T)
    assert np.abs(correlation - np.eye(12)).max() < 0.1


def test_time_shift_moves_and_holds_the_edge():
    ramp = torch.arange(50.0).expand(400, 12, 50)
    out = aug.shift_time(ramp, 5, seeded())
    shift = 25 - out[:, 0, 25]
    assert set(shift.tolist()) == set(range(-5, 6))
    expected = (torch.arange(50.0) - shift[:, None, None]).clamp(0, 49)
    assert torch.equal(out, expected.expand_as(out))


def test_noise_is_white_and_as_strong_as_asked():
    x = torch.zeros(600, 12, 400)
    out = aug.add_noise(x, 0.1, seeded())
    # Lead I is the difference of two electrodes: its variance is twice theirs.
    std = out[:, 0].std(dim=1).numpy() / math.sqrt(2)
    assert stats.kstest(std, stats.uniform(0, 0.1).cdf).pvalue > 1e-3
    z = (out[:, 6] / out[:, 6].std(dim=1, keepdim=True)).numpy()
    lag1 = (z[:, 1:] * z[:, :-1]).mean()
    assert abs(lag1) < 5 / math.sqrt(z.size)


def test_baseline_wander_lies_in_its_band():
    fs, seconds = 50.0, 200
    out = aug.add_baseline_wander(torch.zeros(32, 12, int(fs * seconds)), 0.3, fs, seeded())
    power = np.abs(np.fft.rfft(out.numpy() * np.hanning(out.shape[2]))) ** 2
    frequency = np.fft.rfftfreq(out.shape[2], 1 / fs)
    inside = (frequency > 0.03) & (frequency < 0.53)
    assert power[..., inside].sum() / power.sum() > 0.999


def test_baseline_wander_is_as_strong_as_asked():
    out = aug.add_baseline_wander(torch.zeros(2000, 12, 200), 0.3, 100.0, seeded())
    # E[size^2] = 0.3^2 / 3, and lead I is the difference of two electrodes.
    assert out[:, 0].pow(2).mean().sqrt().item() == pytest.approx(math.sqrt(2 * 0.3**2 / 3), rel=0.1)


@pytest.mark.parametrize("per_lead", [True, False])
def test_time_mask_is_one_stretch_no_longer_than_asked(per_lead):
    out = aug.mask_time(torch.ones(500, 12, 300), 60, seeded(), per_lead=per_lead)
    masked = (out == 0).int()
    edges = masked.diff(dim=2, prepend=torch.zeros(500, 12, 1), append=torch.zeros(500, 12, 1))
    assert (edges == 1).sum(dim=2).max() == 1
    assert 55 < masked.sum(dim=2).max() <= 60
    assert (masked == masked[:, :1]).all() == (not per_lead)
    inner = masked[:, 0, 60:240].float().mean(dim=0)  # away from the ends every sample is hit alike
    assert inner.std() / inner.mean() < 0.3


def test_mixup_mixes_labels_by_the_weight_of_the_signals():
    batch = 64
    x = torch.eye(batch)[:, None, :].expand(-1, 12, -1)  # a record's samples say who is in it, and by how much
    y = torch.randn(batch, 5, generator=seeded(2))
    new_x, new_y = aug.mixup(x, y, 0.5, seeded())
    share = new_x[:, 0]
    torch.testing.assert_close(share.sum(dim=1), torch.ones(batch))
    assert ((share > 0).sum(dim=1) <= 2).all()
    torch.testing.assert_close(new_y, share @ y)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_weights_are_beta(alpha):
    n = 4096
    x = torch.zeros(n, 12, 2)
    x[::2] = 1.0
    y = torch.arange(float(n))[:, None].expand(-1, 2).double()
    new_x, new_y = aug.mixup(x.double(), y, alpha, seeded())
    own_is_one = x[:, 0, 0] == 1
    mixed = (new_x[:, 0, 0] != x[:, 0, 0]) & (new_y[:, 0] != y[:, 0])
    weight = torch.where(own_is_one, new_x[:, 0, 0], 1 - new_x[:, 0, 0])[mixed].numpy()
    assert len(weight) > n / 4
    assert stats.kstest(weight, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_electrodes_to_leads_obeys_einthoven_goldberger_and_wilson():
    matrix = aug.electrodes_to_leads(torch.zeros(1, dtype=torch.float64)).numpy()
    potentials = np.random.default_rng(0).standard_normal((9, 40))
    leads = matrix @ potentials
    np.testing.assert_allclose(leads[:6], derive_limb_leads(leads[0], leads[1]), atol=1e-12)
    np.testing.assert_allclose(leads[9], potentials[6] - potentials[:3].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=1), 0, atol=1e-12)  # leads do not see a potential common to all


def test_compose_applies_in_order_and_skips_none(x, y):
    first, second = aug.LeadDropout(0.5), aug.Noise(0.1)
    both = aug.Compose({"first": first, "off": None, "second": second})
    generator = seeded()
    expected = second(*first(x, y, generator), generator)
    out = both(x, y, seeded())
    assert list(both) == ["first", "second"]
    assert torch.equal(out[0], expected[0]) and torch.equal(out[1], expected[1])
    nothing = aug.Compose({"off": None})(x, y, seeded())
    assert torch.equal(nothing[0], x) and torch.equal(nothing[1], y)


def test_changes_names_the_statements():
    gain, lead_gain = aug.AmplitudeScale(), aug.AmplitudeScale(per_lead=True)
    assert "LVH" in gain.changes and "LAFB" not in gain.changes
    assert {"LVH", "LAFB"} <= lead_gain.changes
    assert all(not t.changes for t in EVERY.values() if not isinstance(t, aug.AmplitudeScale))
    assert aug.Compose({"a": gain, "b": aug.Noise(), "c": None}).changes == gain.changes
    off = aug.Compose({"a": aug.AmplitudeScale(probability=0.0), "b": aug.Noise()})
    assert off.changes == frozenset() and list(off) == ["b"]
