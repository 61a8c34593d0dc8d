import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from einthoven.augment import amplitude, base, compose, leads, masks, mix, noise, randaugment, time
from einthoven.errors import UserError
from einthoven.functional import statements
from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.leads import LEADS, derive_limb_leads
from einthoven.functional.vectorcardiogram import INDEPENDENT_LEADS, dower_matrix, inverse_dower_matrix

FS = 100.0
EVERY = {
    "amplitude_scale": amplitude.AmplitudeScale(0.3),
    "lead_scale": amplitude.AmplitudeScale(0.3, per_lead=True),
    "offset": amplitude.Offset(0.3),
    "time_shift": time.TimeShift(1.0, FS),
    "time_stretch": time.TimeStretch(0.2),
    "resized_crop": time.ResizedCrop(0.3),
    "resample": time.Resample(0.7),
    "noise": noise.Noise(0.1),
    "pink_noise": noise.PinkNoise(0.1),
    "muscle_noise": noise.MuscleNoise(0.1, FS),
    "powerline": noise.Powerline(0.1, 25.0, FS),
    "baseline_wander": noise.BaselineWander(0.3, FS),
    "motion": noise.MotionArtefact(0.5, FS),
    "lead_dropout": masks.LeadDropout(0.3),
    "lead_mask": masks.LeadMask(9),
    "time_mask": masks.TimeMask(2.0, FS),
    "time_mask_all": masks.TimeMask(2.0, FS, per_lead=False),
    "electrode_swap": leads.ElectrodeSwap(probability=1.0),
    "vcg_rotation": leads.VCGRotation(30.0),
    "mixup": mix.Mixup(0.4),
    "cutmix": mix.CutMix(1.0),
}
EVERY["randaugment"] = randaugment.RandAugment(
    {name: EVERY[name] for name in ("noise", "pink_noise", "baseline_wander", "motion", "resample")}, n=2, magnitude=10
)
BREAKS_LAWS = {"lead_scale", "lead_dropout", "lead_mask", "time_mask"}
CHANGES_NOTHING = {"offset", "noise", "pink_noise", "muscle_noise", "powerline", "baseline_wander", "motion"} | {
    "lead_dropout",
    "lead_mask",
    "time_mask",
    "mixup",
}


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
        if isinstance(transform, mix.Mixup | mix.CutMix):
            x = x * torch.randn(512, 1, 1, generator=seeded(8))
        size = (transform(x, torch.zeros(512, 2), seeded())[0] - x).pow(2).mean(dim=(1, 2)).sqrt()
        assert stats.ks_2samp(size[:256].numpy(), size[256:].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", [name for name in EVERY if name not in {"lead_dropout", "randaugment"}])
def test_probability_is_the_share_of_records_touched(name):
    transform = EVERY[name]
    n = 800
    x, y = lawful(1).expand(n, -1, -1).clone(), torch.zeros(n, 2)
    x = x * torch.linspace(1, 2, n)[:, None, None]
    never, always, some = (
        type(transform)(**{**transform.__dict__, "probability": p})(x, y, seeded())[0] for p in (0.0, 1.0, 0.3)
    )
    touched = [(out != x).flatten(1).any(dim=1).float().mean().item() for out in (never, some, always)]
    assert torch.equal(never, x)
    assert touched[2] > 0.95
    assert touched[1] == pytest.approx(0.3 * touched[2], abs=5 * math.sqrt(0.21 / n))


def test_probability_of_lead_dropout_is_that_of_a_lead():
    out = masks.drop_leads(torch.ones(2000, 12, 4), 0.2, seeded())
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
    if name not in BREAKS_LAWS:
        assert error < 1e-5
    else:
        assert error > 1e-2


def test_amplitude_scale_is_one_gain_per_record_log_uniform():
    out = amplitude.scale_amplitude(torch.ones(3000, 12, 3), 0.4, seeded())
    assert (out == out[:, :1, :1]).all()
    assert stats.kstest(out[:, 0, 0].log().numpy(), stats.uniform(-0.4, 0.8).cdf).pvalue > 1e-3


def test_lead_scale_is_one_gain_per_lead():
    out = amplitude.scale_amplitude(torch.ones(3000, 12, 3), 0.4, seeded(), per_lead=True)
    assert (out == out[:, :, :1]).all()
    correlation = np.corrcoef(out[:, :, 0].log().numpy().T)
    assert np.abs(correlation - np.eye(12)).max() < 0.1


def test_time_shift_moves_and_holds_the_edge():
    ramp = torch.arange(50.0).expand(400, 12, 50)
    out = time.shift_time(ramp, 5, seeded())
    shift = 25 - out[:, 0, 25]
    assert set(shift.tolist()) == set(range(-5, 6))
    expected = (torch.arange(50.0) - shift[:, None, None]).clamp(0, 49)
    assert torch.equal(out, expected.expand_as(out))


def test_noise_is_white_and_as_strong_as_asked():
    x = torch.zeros(600, 12, 400)
    out = noise.add_noise(x, 0.1, seeded())
    # Lead I is the difference of two electrodes: its variance is twice theirs.
    std = out[:, 0].std(dim=1).numpy() / math.sqrt(2)
    assert stats.kstest(std, stats.uniform(0, 0.1).cdf).pvalue > 1e-3
    z = (out[:, 6] / out[:, 6].std(dim=1, keepdim=True)).numpy()
    lag1 = (z[:, 1:] * z[:, :-1]).mean()
    assert abs(lag1) < 5 / math.sqrt(z.size)


def test_baseline_wander_lies_in_its_band():
    fs, seconds = 50.0, 200
    out = noise.add_baseline_wander(torch.zeros(32, 12, int(fs * seconds)), 0.3, fs, seeded())
    power = np.abs(np.fft.rfft(out.numpy() * np.hanning(out.shape[2]))) ** 2
    frequency = np.fft.rfftfreq(out.shape[2], 1 / fs)
    inside = (frequency > 0.03) & (frequency < 0.53)
    assert power[..., inside].sum() / power.sum() > 0.999


def test_baseline_wander_is_as_strong_as_asked():
    out = noise.add_baseline_wander(torch.zeros(2000, 12, 200), 0.3, 100.0, seeded())
    # E[size^2] = 0.3^2 / 3, and lead I is the difference of two electrodes.
    assert out[:, 0].pow(2).mean().sqrt().item() == pytest.approx(math.sqrt(2 * 0.3**2 / 3), rel=0.1)


@pytest.mark.parametrize("per_lead", [True, False])
def test_time_mask_is_one_stretch_no_longer_than_asked(per_lead):
    out = masks.mask_time(torch.ones(500, 12, 300), 60, seeded(), per_lead=per_lead)
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
    new_x, new_y = mix.mixup(x, y, 0.5, seeded())
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
    new_x, new_y = mix.mixup(x.double(), y, alpha, seeded())
    own_is_one = x[:, 0, 0] == 1
    mixed = (new_x[:, 0, 0] != x[:, 0, 0]) & (new_y[:, 0] != y[:, 0])
    weight = torch.where(own_is_one, new_x[:, 0, 0], 1 - new_x[:, 0, 0])[mixed].numpy()
    assert len(weight) > n / 4
    assert stats.kstest(weight, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_electrodes_to_leads_obeys_einthoven_goldberger_and_wilson():
    matrix = electrode_matrix()
    potentials = np.random.default_rng(0).standard_normal((9, 40))
    leads = matrix @ potentials
    np.testing.assert_allclose(leads[:6], derive_limb_leads(leads[0], leads[1]), atol=1e-12)
    np.testing.assert_allclose(leads[9], potentials[6] - potentials[:3].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=1), 0, atol=1e-12)  # leads do not see a potential common to all


def test_compose_applies_in_order_and_skips_none(x, y):
    first, second = masks.LeadDropout(0.5), noise.Noise(0.1)
    both = compose.Compose({"first": first, "off": None, "second": second})
    generator = seeded()
    expected = second(*first(x, y, generator), generator)
    out = both(x, y, seeded())
    assert list(both) == ["first", "second"]
    assert torch.equal(out[0], expected[0]) and torch.equal(out[1], expected[1])
    nothing = compose.Compose({"off": None})(x, y, seeded())
    assert torch.equal(nothing[0], x) and torch.equal(nothing[1], y)


class NoWaiting(TorchDispatchMode):
    """Refuses the operators that make a host wait for its device, or whose result has a size of its own."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"}, name
        assert not any(isinstance(a, torch.Tensor) and a.dtype == torch.bool for a in _indices(name, args)), name
        return func(*args, **(kwargs or {}))


def _indices(name, args):
    return args[1] if name in {"index", "index_put", "index_put_"} else ()


@pytest.mark.parametrize("transform", EVERY.values(), ids=EVERY)
def test_nothing_waits_for_the_device(transform, x, y):
    with NoWaiting():
        transform(x, y, seeded())


def test_the_watch_for_waiting_is_awake():
    for wait in (lambda t: t.sum().item(), lambda t: t[t > 0], lambda t: bool(t.sum() > 0)):
        with NoWaiting(), pytest.raises(AssertionError):
            wait(torch.ones(3))


def test_tables_are_copied_once_and_the_cache_is_bounded(x):
    first = base.cached_tensor(electrode_matrix, LEADS, like=x)
    assert base.cached_tensor(electrode_matrix, LEADS, like=x) is first
    for alpha in range(1, 100):
        base.cached_tensor(mix._beta_quantiles, alpha / 10, like=x)
    assert base._make_tensor.cache_info().currsize <= 64
    with torch.inference_mode():
        table = base.cached_tensor(electrode_matrix, LEADS[:7], like=x)
    assert not table.is_inference()


@pytest.mark.parametrize(
    "name", ["noise", "pink_noise", "muscle_noise", "powerline", "baseline_wander", "motion", "offset"]
)
def test_fewer_leads_get_their_rows(name):
    subset = ("II", "V1", "V5")
    some = type(EVERY[name])(**{**EVERY[name].__dict__, "leads": list(subset)})
    rows = [LEADS.index(lead) for lead in subset]
    all_leads = EVERY[name](torch.zeros(4, 12, 300), torch.zeros(4, 1), seeded(5))[0]
    torch.testing.assert_close(some(torch.zeros(4, 3, 300), torch.zeros(4, 1), seeded(5))[0], all_leads[:, rows])


def spectrum(out, fs=FS):
    power = np.abs(np.fft.rfft(out.double().numpy())) ** 2
    return np.fft.rfftfreq(out.shape[-1], 1 / fs), power.mean(axis=tuple(range(out.dim() - 1)))


@pytest.mark.parametrize("exponent", [1.0, 2.0])
@pytest.mark.parametrize("samples", [1000, 1001])
def test_pink_noise_falls_as_it_says_and_is_as_strong_as_asked(exponent, samples):
    out = noise.add_pink_noise(torch.zeros(300, 12, samples), 0.2, seeded(), exponent=exponent)
    frequency, power = spectrum(out)
    inner = slice(2, -2)
    slope = np.polyfit(np.log(frequency[inner]), np.log(power[inner]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert power[0] < 1e-6 * power[1]
    assert out[:, 0].square().mean().item() == pytest.approx(2 * 0.2**2 / 3, rel=0.15)


def test_muscle_noise_lies_in_its_band():
    out = noise.add_muscle_noise(torch.zeros(100, 12, 5000), 0.1, 500.0, seeded(), band=(20.0, 150.0))
    frequency, power = spectrum(out, 500.0)
    inside = (frequency >= 20) & (frequency <= 150)
    assert power[inside].sum() / power.sum() > 0.9999
    assert power[inside].std() / power[inside].mean() < 0.2  # flat there
    assert out[:, 0].square().mean().item() == pytest.approx(2 * 0.1**2 / 3, rel=0.15)
    with pytest.raises(UserError, match="half the sampling frequency of 30 Hz"):
        noise.MuscleNoise(fs=30.0)


@pytest.mark.parametrize("hertz", [50.0, 60.0])
def test_powerline_is_one_frequency(hertz):
    out = noise.add_powerline(torch.zeros(200, 12, 5000), 0.1, hertz, 500.0, seeded())
    frequency, power = spectrum(out, 500.0)
    assert frequency[power.argmax()] == hertz and power.max() / power.sum() > 0.9999
    # A sinusoid has half the square of its amplitude; lead I is the difference of two electrodes.
    assert out[:, 0].square().mean().item() == pytest.approx(0.1**2 / 3, rel=0.3)
    with pytest.raises(UserError, match=r"data\.fs=500"):
        noise.Powerline(frequency=hertz, fs=100.0)


def test_motion_is_a_jump_of_one_electrode_that_decays():
    fs, decay = 500.0, (0.2, 0.4)
    out = noise.add_motion(torch.zeros(400, 12, 5000), 0.5, fs, seeded(), decay=decay).double()
    per_electrode = out.transpose(1, 2) @ torch.from_numpy(np.linalg.pinv(electrode_matrix())).T
    start = (out.abs().amax(dim=1) > 0).int().argmax(dim=1)
    assert stats.kstest(start.numpy() / fs, stats.uniform(0, 10).cdf).pvalue > 1e-3
    early = start < 4000
    at = out[early, :, :].gather(
        2, start[early][:, None, None] + torch.tensor([0, 100]).expand(int(early.sum()), 12, 2)
    )
    lead = at[:, :, 0].abs().argmax(dim=1)
    ratio = at[torch.arange(len(lead)), lead, 1] / at[torch.arange(len(lead)), lead, 0]
    constant = -100 / fs / ratio.log()
    assert decay[0] - 0.01 < constant.min() and constant.max() < decay[1] + 0.01
    assert per_electrode.isfinite().all()
    column = electrode_matrix().T / np.linalg.norm(electrode_matrix().T, axis=1, keepdims=True)
    direction = at[:, :, 0] / at[:, :, 0].norm(dim=1, keepdim=True)
    match = np.abs(direction.numpy() @ column.T)
    assert match.max(axis=1).min() > 0.999
    assert stats.chisquare(np.bincount(match.argmax(axis=1), minlength=9)).pvalue > 1e-3


def sines(hertz, batch=200, samples=2000):
    wave = torch.sin(2 * math.pi * hertz * torch.arange(samples, dtype=torch.float64) / FS)
    return wave.expand(batch, 12, samples)


def middle_frequency(out):
    """Frequency of a sine in the middle half of a record, from its zero crossings."""
    part = out[:, 0, 500:1500]
    up = (part[:, :-1] < 0) & (part[:, 1:] >= 0)
    found = []
    for row, crossing in zip(part.numpy(), up.numpy(), strict=True):
        (at,) = np.nonzero(crossing)
        exact = at - row[at] / (row[at + 1] - row[at])
        found.append((len(at) - 1) / (exact[-1] - exact[0]) * FS)
    return np.array(found)


def test_stretch_divides_the_rate_by_the_factor():
    out = time.stretch_time(sines(2.0), 0.3, seeded())
    log_factor = -np.log(middle_frequency(out) / 2.0)
    assert stats.kstest(log_factor, stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-3


def test_resized_crop_slows_by_the_share_that_is_left():
    out = time.resize_crop(sines(2.0), 0.4, seeded())
    share = middle_frequency(out) / 2.0
    assert stats.kstest(1 - share, stats.uniform(0, 0.4).cdf).pvalue > 1e-3
    ramp = torch.arange(101.0).expand(300, 12, 101)
    cropped = time.resize_crop(ramp, 0.4, seeded())
    assert cropped.min() >= 0 and cropped.max() <= 100
    assert cropped[:, 0, 0].max() > 20 and cropped[:, 0, -1].min() < 80  # from either end


def test_reading_between_samples_is_exact_at_samples_and_for_parabolas():
    t = torch.arange(50, dtype=torch.float64)
    x = torch.stack([t**2 - 3 * t, 2 * t]).expand(3, 2, 50)
    torch.testing.assert_close(time.sample_at(x, t.expand(3, 50)), x)
    p = torch.linspace(1.0, 47.9, 333, dtype=torch.float64)
    torch.testing.assert_close(time.sample_at(x, p.expand(3, -1)), torch.stack([p**2 - 3 * p, 2 * p]).expand(3, 2, -1))
    ends = time.sample_at(x, torch.tensor([[-9.0, 99.0]], dtype=torch.float64).expand(3, 2))
    torch.testing.assert_close(ends, x[:, :, [0, -1]])


def test_resample_takes_what_is_above_half_of_the_lower_frequency():
    white = torch.randn(400, 1, 2000, generator=seeded(1))
    frequency, before = spectrum(white)
    _, after = spectrum(time.resample_time(white, 0.5, seeded()))
    kept = after / before
    assert kept[frequency < 19].min() > 0.99  # 0.8 of half of the lowest, 50 Hz
    assert np.all(np.diff([kept[(frequency > low) & (frequency < low + 5)].mean() for low in range(20, 50, 5)]) < 0)
    slow = sines(1.0, batch=4)
    assert (time.resample_time(slow, 0.5, seeded()) - slow).abs()[:, :, 50:-50].max() < 1e-3


def test_random_crop_is_a_piece_from_anywhere():
    ramp = torch.arange(300.0).expand(2000, 12, 300)
    out = time.crop_time(ramp, 100, seeded())
    assert out.shape == (2000, 12, 100) and (out.diff(dim=2) == 1).all()
    assert stats.chisquare(np.bincount(out[:, 0, 0].long().numpy() // 67, minlength=3)).pvalue > 1e-3
    assert out[:, 0, 0].max() == 200
    with pytest.raises(UserError, match="the records have 300 samples; expected at least 400"):
        time.crop_time(ramp, 400, seeded())


def test_lead_mask_hides_every_set_of_a_size_alike():
    out = masks.mask_leads(torch.ones(4000, 12, 4), 9, seeded())
    hidden = (out == 0).all(dim=2)
    assert torch.equal(hidden, (out == 0).any(dim=2))
    sizes = hidden.sum(dim=1)
    assert stats.chisquare(np.bincount(sizes.numpy(), minlength=10)[1:10]).pvalue > 1e-3
    assert sizes.min() == 1 and sizes.max() == 9
    assert hidden.float().mean(dim=0).numpy() == pytest.approx(np.full(12, 5 / 12), abs=0.04)
    with pytest.raises(UserError, match="fewer than the 12 leads"):
        masks.mask_leads(torch.ones(2, 12, 4), 12, seeded())


def test_swapped_arms_turn_lead_one_upside_down(x):
    out = leads.swap_electrodes(x.double(), seeded(), swaps=["RA-LA"])
    expected = x.double()[:, [0, 2, 1, 4, 3, *range(5, 12)]].clone()
    expected[:, 0] *= -1
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    chest = leads.swap_electrodes(x.double(), seeded(), swaps=["V1-V2"])
    torch.testing.assert_close(chest, x.double()[:, [*range(6), 7, 6, *range(8, 12)]], atol=1e-6, rtol=0)


def test_swaps_undo_themselves_keep_what_breaks_the_laws_and_are_drawn_evenly(x):
    matrices = leads.swap_matrices(leads.SWAPS)
    np.testing.assert_allclose(matrices @ matrices, np.broadcast_to(np.eye(12), matrices.shape), atol=1e-12)
    unlawful = np.eye(12) - electrode_matrix() @ np.linalg.pinv(electrode_matrix())
    np.testing.assert_allclose(matrices @ unlawful, np.broadcast_to(unlawful, matrices.shape), atol=1e-12)
    record = x[:1].double().expand(1800, -1, -1)[:, :, ::50]
    out = leads.swap_electrodes(record, seeded())
    each = torch.from_numpy(matrices) @ record[0]
    which = (out[:, None] - each).abs().amax(dim=(2, 3)).argmin(dim=1)
    assert stats.chisquare(np.bincount(which.numpy(), minlength=9)).pvalue > 1e-3


def test_swaps_of_fewer_leads_where_they_can_be_told():
    limbs = leads.swap_matrices(["RA-LA"], LEADS[:6])[0]
    np.testing.assert_allclose(limbs, leads.swap_matrices(["RA-LA"])[0][:6, :6], atol=1e-12)
    with pytest.raises(UserError, match="RA-LA needs leads that are not among II, V1"):
        leads.ElectrodeSwap(["RA-LA"], ["II", "V1"])
    with pytest.raises(UserError, match="as in RA-LA"):
        leads.ElectrodeSwap(["RA-XX"])


def test_rotation_turns_the_dipole_by_its_angle_and_keeps_the_residual(x):
    x = x[:1].double().expand(1500, -1, -1)[:, :, ::25]
    out = leads.rotate_vcg(x, 40.0, seeded())
    matrix, inverse = dower_matrix(), inverse_dower_matrix()
    residual = np.eye(12) - matrix @ inverse
    np.testing.assert_allclose(residual @ out.numpy(), residual @ x.numpy(), atol=1e-9)
    before, after = inverse @ x[0].numpy(), inverse @ out.numpy()
    turn = after @ np.linalg.pinv(before)
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turn.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-9)
    angle = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert stats.kstest(angle, stats.uniform(0, 40).cdf).pvalue > 1e-3
    skew = np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], 1)
    axis = skew / np.linalg.norm(skew, axis=1, keepdims=True)
    for component in axis.T:  # of an even direction, each coordinate is uniform (Archimedes)
        assert stats.kstest(component, stats.uniform(-1, 2).cdf).pvalue > 1e-3


# Edenbrandt and Pahlm 1988: x, y and z from V1 to V6, I and II.
PUBLISHED = [
    [-0.172, -0.074, 0.122, 0.231, 0.239, 0.194, 0.156, -0.010],
    [0.057, -0.019, -0.106, -0.022, 0.041, 0.048, -0.227, 0.887],
    [-0.229, -0.310, -0.246, -0.063, 0.055, 0.108, 0.022, 0.102],
]


@pytest.mark.parametrize("names", [LEADS, INDEPENDENT_LEADS, LEADS[::-1], (*INDEPENDENT_LEADS, "aVR")])
def test_the_inverse_transform_is_the_published_one(names):
    found = dict(zip(names, inverse_dower_matrix(names).T, strict=True))
    order = ("V1", "V2", "V3", "V4", "V5", "V6", "I", "II")
    np.testing.assert_allclose(np.stack([found.pop(name) for name in order], axis=1), PUBLISHED, atol=6e-4)
    assert all((column == 0).all() for column in found.values())
    np.testing.assert_allclose(inverse_dower_matrix(names) @ dower_matrix(names), np.eye(3), atol=1e-12)


def test_rotation_matches_scipy():
    from scipy.spatial.transform import Rotation

    vector = np.random.default_rng(0).standard_normal((20, 3))
    angle = np.linalg.norm(vector, axis=1)
    turn = leads._rotation_minus_one(torch.from_numpy(vector / angle[:, None]), torch.from_numpy(angle)[:, None, None])
    np.testing.assert_allclose(turn.numpy() + np.eye(3), Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)


def test_rotation_says_which_leads_it_needs():
    leads.VCGRotation(leads=INDEPENDENT_LEADS)
    with pytest.raises(UserError, match="V5, V6 are not among the leads"):
        leads.VCGRotation(leads=LEADS[:10])


def test_cutmix_pastes_one_stretch_and_deals_labels_by_its_share():
    batch, samples = 512, 200
    x = torch.arange(float(batch))[:, None, None].expand(-1, 12, samples)
    new_x, new_y = mix.cutmix(x, torch.eye(batch), 1.0, seeded())
    own = new_x == x
    assert (own == own[:, :1]).all()
    assert (own[:, 0].int().diff(dim=1) != 0).sum(dim=1).max() <= 2
    share = own[:, 0].float().mean(dim=1)
    mixed = share < 1
    torch.testing.assert_close(new_y.diagonal()[mixed], share[mixed], atol=1e-5, rtol=0)
    torch.testing.assert_close(new_y.sum(dim=1), torch.ones(batch))
    partner = new_x[:, 0].gather(1, own[:, 0].int().argmin(dim=1, keepdim=True))[:, 0].long()
    pasted = new_y[torch.arange(batch), partner]
    torch.testing.assert_close(pasted[mixed], 1 - share[mixed], atol=1e-5, rtol=0)
    assert stats.kstest(share[mixed].numpy(), stats.uniform.cdf).pvalue > 1e-3  # Beta(1, 1)


def marked(count):
    from dataclasses import dataclass
    from typing import ClassVar

    @dataclass(frozen=True)
    class Add:
        by: float
        strength: ClassVar[str] = "by"
        changes: ClassVar[frozenset[str]] = frozenset()

        def __call__(self, x, y, generator):
            return x + self.by, y

    return {str(k): Add(float(k + 1)) for k in range(count)}


@pytest.mark.parametrize(("batch", "count"), [(8, 3), (2, 5), (12, 4)])
def test_randaugment_draws_every_transform_evenly_wherever_a_record_stands(batch, count):
    transform = randaugment.RandAugment(marked(count), n=1, magnitude=10)
    generator, drawn = seeded(), np.zeros((batch, count), int)
    for _ in range(1500):
        x = torch.arange(float(batch))[:, None, None] * 100
        out = transform(x, torch.zeros(batch, 1), generator)[0] - x
        drawn[np.arange(batch), out[:, 0, 0].long().numpy() - 1] += 1
    assert min(stats.chisquare(row).pvalue for row in drawn) > 1e-4


def test_randaugment_applies_n_at_a_share_of_their_strength(x, y):
    twice = randaugment.RandAugment(marked(1), n=3, magnitude=2.5)
    torch.testing.assert_close(twice(x, y, seeded())[0], x + 0.75)
    whole = randaugment.RandAugment({"mask": masks.LeadMask(9, 0.1), "turn": leads.VCGRotation(20)}, magnitude=5)
    assert whole.transforms["mask"] == masks.LeadMask(4, 1.0) and whole.transforms["turn"] == leads.VCGRotation(10.0)
    assert whole.changes == leads.VCGRotation.changes
    for options, sentence in (
        ({"n": 0}, "n=0"),
        ({"magnitude": 11}, "magnitude from 0 to 10"),
        ({"transforms": {}}, "at least one"),
        ({"transforms": {"crop": time.RandomCrop()}}, "crop .RandomCrop. has no strength"),
    ):
        with pytest.raises(UserError, match=sentence):
            randaugment.RandAugment(**{"transforms": marked(2), **options})


def test_changes_names_the_statements():
    gain, lead_gain = amplitude.AmplitudeScale(), amplitude.AmplitudeScale(per_lead=True)
    assert "LVH" in gain.changes and "LAFB" not in gain.changes
    assert {"LVH", "LAFB"} <= lead_gain.changes
    assert {name for name, t in EVERY.items() if not t.changes} == CHANGES_NOTHING
    assert "LAFB" in EVERY["vcg_rotation"].changes and {"SBRAD", "1AVB"} <= EVERY["time_stretch"].changes
    assert compose.Compose({"a": gain, "b": noise.Noise(), "c": None}).changes == gain.changes
    off = compose.Compose({"a": amplitude.AmplitudeScale(probability=0.0), "b": noise.Noise()})
    assert off.changes == frozenset() and list(off) == ["b"]
    with pytest.raises(UserError, match=r"augment\.transforms\.a\.probability=2: expected a probability from 0 to 1"):
        compose.Compose({"a": noise.Noise(probability=2)})


def test_changed_classes_go_through_statements():
    class_of = {"LVH": "HYP", "SEHYP": "HYP", "LAFB": "CD", "NORM": "NORM"}
    assert statements.changed_classes({"LVH", "SEHYP", "HVOLT"}, ["HYP", "NORM"], class_of) == {"HYP": ("LVH", "SEHYP")}
    assert statements.changed_classes({"LVH", "HVOLT"}, ["HVOLT", "PVC"], {}) == {"HVOLT": ("HVOLT",)}
    assert statements.changed_classes({"LAFB"}, ["NORM"], class_of) == {}


def test_every_statement_is_one_of_ptbxl_and_none_of_a_kind_is_forgotten(real_data):
    import csv

    with (real_data / "ptbxl" / "scp_statements.csv").open() as file:
        about = {row[0]: row[1] for row in csv.reader(file)}
    declared = frozenset().union(*(transform.changes for transform in EVERY.values()))
    assert declared <= set(about)
    by_lead = {
        name for name, text in about.items() if re.search("leads$|myocardial infarction|T-wave|ST (dep|ele)", text)
    }
    assert len(by_lead) == 27
    assert by_lead - {"LVOLT"} <= leads.ElectrodeSwap.changes


@pytest.mark.parametrize(
    ("transform", "option"),
    [
        (lambda: noise.Noise(max_std=-1.0), "max_std=-1.0"),
        (lambda: time.TimeShift(seconds=-0.5), "seconds=-0.5"),
        (lambda: time.TimeShift(fs=0.0), "fs=0.0"),
        (lambda: noise.MotionArtefact(fs=-100.0), "fs=-100.0"),
        (lambda: noise.BaselineWander(max_amplitude=math.nan), "max_amplitude=nan"),
        (lambda: mix.Mixup(alpha=0.0), "alpha=0.0"),
        (lambda: mix.Mixup(alpha=math.inf), "alpha=inf"),
        (lambda: noise.Noise(max_std=2e6, probability=0), "max_std=2000000.0"),  # also where it is off
    ],
)
def test_options_that_make_no_sense_are_refused(transform, option) -> None:
    with pytest.raises(UserError, match=f"augment.transforms.a.{option}: expected a number"):
        compose.Compose({"a": transform()})


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        (None, "transforms=None: expected a mapping"),
        (5, "transforms=5: expected"),
        ({"x": 5}, r"x=5: expected a trans"),
    ],
)
def test_transforms_that_are_none_are_refused(transforms: object, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        compose.Compose(transforms)
