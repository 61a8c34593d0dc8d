# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Probability: what outputs, losses and penalties mean
#
# A network that says 0.87 states a probability. A loss says how improbable the labels are if the network is right. A
# penalty says what was believed of the weights before any data. This notebook shows where each of them comes from:
#
# | what is predicted or assumed | distribution | −log of it |
# |---|---|---|
# | a quantity: heart rate | Gaussian | squared error |
# | yes or no: normal? | Bernoulli | binary cross-entropy |
# | one of several classes | categorical | cross-entropy |
# | weights are small | Gaussian prior | L2 penalty |
# | most weights are zero | Laplace prior | L1 penalty |
#
# On one side stand the losses of the package, on the other side the distributions of `scipy.stats`, which know
# nothing about losses.

# %%
# %matplotlib inline
import numpy as np
import torch
from ecgs import CLASSES, FS, clear_record, read_ecgs
from scipy import optimize, stats
from sklearn.naive_bayes import GaussianNB
from torch import nn

from einthoven.augment.amplitude import AmplitudeScale
from einthoven.augment.leads import VCGRotation
from einthoven.augment.masks import LeadDropout, TimeMask
from einthoven.augment.mix import Mixup
from einthoven.augment.noise import BaselineWander, MuscleNoise
from einthoven.augment.time import TimeShift, TimeStretch
from einthoven.functional.bayes import posterior, predictive_values
from einthoven.functional.beats import detect_beats, heart_rate
from einthoven.functional.leads import LEADS
from einthoven.functional.qrs_edges import qrs_duration
from einthoven.functional.representative_beat import representative_beat
from einthoven.losses.classification import asymmetric, binary_cross_entropy, cross_entropy, focal
from einthoven.losses.regression import mse
from einthoven.models.init import xavier
from einthoven.models.mlp import MLP
from einthoven.models.norms import feature_norm
from einthoven.optim.penalties import L1, L2, ProximalL1
from einthoven.report.small_multiples import augmentation_figure
from einthoven.report.style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILLION, new_figure, use_style

ecgs = read_ecgs(240)
signals = ecgs.signals.astype(np.float64)
beats = detect_beats(signals, FS)
duration_ms = 1000 * qrs_duration(representative_beat(signals, beats, FS), FS)
measured = heart_rate(beats, FS)

# Keep the records whose heart rate and QRS duration can be measured.
known = np.isfinite(duration_ms) & np.isfinite(measured)
signals, duration_ms, labels = signals[known], duration_ms[known], ecgs.labels[known]
rate = torch.from_numpy(measured[known])[:, None]
n = len(rate)
print(f"{ecgs.source}; {n} of them have a heart rate and a QRS duration")

# %% [markdown]
# ## Mean and variance
#
# A distribution says how likely each outcome is. Two numbers sum up most of it: the *expectation* (the mean) and the
# *variance* (the mean squared distance from it). Its root is the standard deviation σ.
#
# The mean of B records is not exact. Its own standard deviation is σ/√B: four times the records, half the error. The
# gradient of a batch is such a mean, so this is also the noise of a training step.

# %%
generator = np.random.default_rng(0)
sizes = 2 ** np.arange(8)
spread = [generator.choice(rate[:, 0].numpy(), (4000, size)).mean(axis=1).std() for size in sizes]
sigma = float(rate.std(correction=0))
root_error = float(np.abs(np.array(spread) * np.sqrt(sizes) / sigma - 1).max())
print(f"mean {rate.mean():.1f}, standard deviation {sigma:.1f} beats per minute; σ/√B holds within {root_error:.1%}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    left.hist(rate[:, 0], bins=24, density=True, color=BLUE, alpha=0.35)
    grid = np.linspace(30, 150, 200)
    left.plot(grid, stats.norm(float(rate.mean()), sigma).pdf(grid), color=INK)
    left.set(xlabel="heart rate (beats per minute)", title="The rates, and a Gaussian")
    right.loglog(sizes, spread, "o", color=BLUE, label="4,000 means of B records")
    right.loglog(sizes, sigma / np.sqrt(sizes), "--", color=INK, label="σ/√B")
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.minorticks_off()
    right.set(xlabel="records, B", ylabel="standard deviation", title="The error of a mean")
    right.legend()
figure

# %% [markdown]
# ### Where a network needs them
#
# *Normalization* subtracts the mean of a batch and divides by its standard deviation. *Initialization* chooses the
# variance of the first weights, so that a signal keeps its size from layer to layer. With `k` inputs of mean square
# m, a weighted sum has the variance k · Var(w) · m. ReLU halves the mean square, so Var(w) = 2/k keeps it (He). A
# little less or more, to the power of 20 layers, and nothing or infinity is left.

# %%
x = torch.from_numpy(signals[:, [1, 6, 10], :250]).flatten(1)
normalize = feature_norm("batch", x.shape[1]).double().train()
by_hand = (x - x.mean(dim=0)) / torch.sqrt(x.var(dim=0, correction=0) + normalize.eps)
norm_error = float((normalize(x).detach() - by_hand).abs().max())
print(f"batch normalization by hand and by the layer differ by {norm_error:.1e}")

variances = {}
for name, gain in (("gain 0.7: too small", 0.7), ("gain √2: He", 2**0.5), ("gain 2: too large", 2.0)):
    torch.manual_seed(0)
    deep = MLP(3, 5, samples=250, width=256, depth=20, activation="relu", norm="none", dropout=0.0).double()
    xavier(deep, x, gain=gain)
    signal, variances[name] = by_hand, []
    with torch.no_grad():
        for layer in list(deep.children())[:-1]:
            signal = layer(signal)
            variances[name].append(float(signal.var()))
kept = variances["gain √2: He"][-1] / variances["gain √2: He"][0]
print(f"with He's variance, layer 20 has {kept:.2f} times the variance of layer 1")

# %%
with use_style():
    figure = new_figure(9, 3.6)
    axes = figure.add_subplot()
    for (name, values), color in zip(variances.items(), (ORANGE, BLUE, VERMILLION), strict=True):
        axes.semilogy(range(1, 21), np.array(values) / values[0], "o-", color=color, markersize=4, label=name)
    axes.set(xlabel="layer", ylabel="variance, layer 1 = 1", title="A signal on its way through 20 layers")
    axes.set_xticks(range(1, 21))
    axes.legend()
figure

# %% [markdown]
# ## Bayes' rule
#
# A classifier turns around what a textbook says. The textbook has P(wide QRS | conduction disturbance). The patient
# wants to know P(conduction disturbance | wide QRS):
#
# > P(c | x) = P(x | c) P(c) / Σₖ P(x | k) P(k)
#
# Let x be the QRS duration, with one Gaussian for the records with a conduction disturbance (CD), and one for the
# others.

# %%
has_cd = labels[:, CLASSES.index("CD")] == 1
groups = [stats.norm(duration_ms[side].mean(), duration_ms[side].std()) for side in (~has_cd, has_cd)]
share = float(has_cd.mean())
axis = np.linspace(60, 200, 281)
log_likelihood = np.stack([group.logpdf(axis) for group in groups], axis=1)
by_rule = posterior([1 - share, share], log_likelihood)[:, 1]
in_clinic = groups[1].pdf(axis) * share / (groups[1].pdf(axis) * share + groups[0].pdf(axis) * (1 - share))
bayes_error = float(np.abs(by_rule - in_clinic).max())
bayes_model = GaussianNB(var_smoothing=0).fit(duration_ms[:, None], has_cd)
sklearn_error = float(np.abs(bayes_model.predict_proba(axis[:, None])[:, 1] - by_rule).max())
print(f"the rule by hand differs by {bayes_error:.1e}, scikit-learn's naive Bayes by {sklearn_error:.1e}")

# %% [markdown]
# (Very short complexes seem to speak for CD, too: the Gaussian of CD is wider on both sides. A model is only as good
# as its distributions.)
#
# P(c), the *prior*, is what was known before: how frequent the disease is. The same QRS means something else in a
# population in which the disease is rare. A screening of healthy people with a good test finds mostly false alarms.

# %%
rare = posterior([0.98, 0.02], log_likelihood)[:, 1]
wide = duration_ms > 110
sensitivity, specificity = float(wide[has_cd].mean()), float((~wide)[~has_cd].mean())
ppv = {prior: float(predictive_values(sensitivity, specificity, prior)[0]) for prior in (share, 0.02)}
ppv_error = abs(ppv[share] - has_cd[wide].mean())
print(f"QRS above 110 ms finds {sensitivity:.0%} of CD, and is right about {specificity:.0%} of the others")
print(f"of the records above 110 ms, {ppv[share]:.0%} have CD here; with 2 % CD it would be {ppv[0.02]:.0%}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2, sharex=True)
    bins = np.arange(60, 204, 6)
    for side, group, weight, color, name in (
        (~has_cd, groups[0], 1 - share, GREEN, "without CD"),
        (has_cd, groups[1], share, VERMILLION, "with CD"),
    ):
        left.hist(duration_ms[side], bins=bins, color=color, alpha=0.3)
        left.plot(axis, group.pdf(axis) * weight * n * 6, color=color, label=name)
    left.set(xlabel="QRS duration (ms)", ylabel="records", title="P(x | c) P(c)")
    left.legend()
    right.plot(axis, by_rule, color=VERMILLION, label=f"prior {share:.0%}, as here")
    right.plot(axis, rare, "--", color=VERMILLION, label="prior 2 %")
    right.set(xlabel="QRS duration (ms)", ylabel="P(CD | QRS duration)", title="Posterior")
    right.legend()
figure

# %% [markdown]
# `model=naive_bayes` does this with many measurements.
#
# ## A quantity: the squared error is a Gaussian
#
# *Maximum likelihood* chooses the parameters that make the observed data most probable. Say that the heart rate is a
# Gaussian around μ with standard deviation σ:
#
# > −log p(y | μ) = (y − μ)² / 2σ² + ½ log 2πσ²
#
# The logarithm makes a sum out of the product over records, and a square out of the exponential. So −log likelihood
# and squared error have their minimum at the same place, the mean.

# %%
guesses = np.linspace(50, 110, 121)
squared = np.array([float(mse(torch.full_like(rate, mu), rate).mean()) for mu in guesses])
from_squared = squared / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
from_scipy = np.array([-stats.norm(mu, sigma).logpdf(rate.numpy()).mean() for mu in guesses])
gaussian_error = float(np.abs(from_scipy - from_squared).max())
best_rate = float(guesses[squared.argmin()])
print(f"the two curves differ by {gaussian_error:.1e} nats; minimum at {best_rate:.1f}, mean {rate.mean():.1f}")

# %% [markdown]
# ## Yes or no, and one of several
#
# If the ECG is normal with the probability p, the label y (1 or 0) has the probability p or 1 − p. The negative
# logarithm is the binary cross-entropy, −y log p − (1 − y) log(1 − p). With several classes of which one holds, it is
# −log of the probability of this class: the cross-entropy.

# %%
logits = torch.linspace(-6, 6, 121, dtype=torch.float64)[:, None]
p = logits.sigmoid().numpy()[:, 0]
bce = {label: binary_cross_entropy(logits, torch.full_like(logits, label)).numpy() for label in (0.0, 1.0)}
bernoulli_error = max(float(np.abs(bce[k] + stats.bernoulli(p).logpmf(k)).max()) for k in (0, 1))

one_hot = torch.from_numpy(labels[labels.sum(axis=1) == 1])
some_logits = torch.randn(one_hot.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ce = cross_entropy(some_logits, one_hot, output="softmax").numpy()
pmf = stats.multinomial(1, some_logits.softmax(dim=1).numpy()).logpmf(one_hot.numpy())
categorical_error = float(np.abs(ce + pmf).max())
print(f"from scipy's Bernoulli {bernoulli_error:.1e} nats, from its multinomial {categorical_error:.1e} nats")

# %% [markdown]
# So training with cross-entropy is maximum likelihood. A logistic layer that is trained on the loss, and an optimizer
# of scipy that maximizes the likelihood, find the same two numbers.


# %%
def minimize(objective, layer, steps=200):
    """Minimize with L-BFGS on all records, to the last digit."""
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=steps, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = objective(layer)
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer


width = torch.from_numpy((duration_ms - 100) / 20)[:, None]
normal = torch.from_numpy(labels[:, [CLASSES.index("NORM")]])
logistic = minimize(lambda layer: binary_cross_entropy(layer(width), normal).mean(), nn.Linear(1, 1).double())
by_loss = np.array([logistic.weight.item(), logistic.bias.item()])


def minus_log_likelihood(slope_and_intercept):
    """Of logistic regression, in the words of scipy."""
    slope, intercept = slope_and_intercept
    chance = 1 / (1 + np.exp(-(slope * width.numpy() + intercept)))
    return -stats.bernoulli(chance).logpmf(normal.numpy()).sum()


by_likelihood = optimize.minimize(minus_log_likelihood, np.zeros(2), tol=1e-10).x
print("slope and intercept by the loss:", by_loss.round(4), "by the likelihood:", by_likelihood.round(4))

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    for label, color, name in ((1.0, GREEN, "normal"), (0.0, VERMILLION, "not normal")):
        left.plot(p, bce[label], color=color, label=name)
    left.set(xlabel="p of normal", ylabel="nats", title="Binary cross-entropy: the price of p", ylim=(0, 5))
    left.legend()
    jitter = np.random.default_rng(0).uniform(-0.04, 0.04, n)
    right.scatter(duration_ms, normal[:, 0].numpy() + jitter, s=14, color=BLUE, alpha=0.4, linewidths=0)
    grid = torch.linspace(60, 200, 100, dtype=torch.float64)[:, None]
    right.plot(grid, logistic((grid - 100) / 20).sigmoid().detach(), color=INK)
    right.set(xlabel="QRS duration (ms)", ylabel="normal", title="Maximum likelihood: the wider, the less normal")
figure

# %% [markdown]
# ## Losses that are no likelihoods
#
# Take all records that look alike, and let the share π of them be normal. Maximum likelihood answers p = π: the
# probability means what it says. Other losses ask for another answer. It can be computed: the p with the smallest
# expected loss π · loss(p, 1) + (1 − π) · loss(p, 0).

# %%
pi = np.linspace(0.02, 0.98, 49)
fine = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
losses = {
    "cross-entropy": cross_entropy,
    "label smoothing 0.2": lambda z, y: cross_entropy(z, y, label_smoothing=0.2),
    "focal, γ = 2": focal,
    "asymmetric": asymmetric,
}
answers = {}
for name, loss in losses.items():
    of_one, of_zero = (loss(fine, torch.full_like(fine, label)).numpy() for label in (1.0, 0.0))
    expected = pi[:, None] * of_one + (1 - pi[:, None]) * of_zero
    answers[name] = fine.sigmoid().numpy()[expected.argmin(axis=1), 0]
smoothed_error = float(np.abs(answers["label smoothing 0.2"] - (0.8 * pi + 0.1)).max())
for name, answer in answers.items():
    print(f"{name:<20} answers {answer[np.abs(pi - 0.2).argmin()]:.2f} where one in five is normal")

# %%
with use_style():
    figure = new_figure(5.6, 4.8)
    axes = figure.add_subplot()
    for (name, answer), color in zip(answers.items(), (INK, BLUE, VERMILLION, GREEN), strict=True):
        axes.plot(pi, answer, color=color, label=name)
    axes.set(xlabel="share that is normal, π", ylabel="best answer, p", aspect="equal", title="What each loss asks for")
    axes.legend(fontsize=9)
figure

# %% [markdown]
# Cross-entropy lies on the diagonal. Label smoothing never answers below ε/2. Focal draws every answer to the middle.
# Asymmetric says yes early. They may rank the records as well or better. But their outputs are no probabilities until
# `einthoven evaluate` has calibrated them.
#
# ## A penalty is a prior
#
# Bayes' rule for weights: the *posterior* is the likelihood times the prior.
#
# > −log P(w | data) = Σᵢ −log P(yᵢ | w) − log P(w) + constant
#
# So the most probable weights minimize loss + penalty. The loss of a run is a mean over n records. Then L2 with the
# strength λ is a Gaussian prior with the variance 1/(nλ), and L1 a Laplace prior with the scale 1/(nλ).
#
# The example predicts the heart rate (in standard deviations) from the power of lead II in 30 frequency bands, with a
# linear layer. A mean squared error is the likelihood of a Gaussian with σ² = 1/2. For any weights, the two sides
# differ by one constant:

# %%
spectrum = np.abs(np.fft.rfft(signals[:, LEADS.index("II")] * np.hanning(signals.shape[-1]))) ** 2
bands = np.log(np.stack([band.mean(axis=1) for band in np.array_split(spectrum[:, 5:125], 30, axis=1)], axis=1))
x = torch.from_numpy((bands - bands.mean(axis=0)) / bands.std(axis=0))
y = (rate - rate.mean()) / sigma
frequency = np.linspace(0.5, 12.5, 30)

strength = 0.3
layer = nn.Linear(30, 1, bias=False).double()
constants: dict[str, list[float]] = {"L2": [], "L1": []}
for seed in range(5):
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
        w = layer.weight.numpy()
        minus_log = -stats.norm(layer(x), np.sqrt(0.5)).logpdf(y).sum()
        for name, penalty, prior in (
            ("L2", L2(strength), stats.norm(0, 1 / np.sqrt(n * strength))),
            ("L1", L1(strength), stats.laplace(0, 1 / (n * strength))),
        ):
            objective = n * float(mse(layer(x), y).mean() + penalty.loss(layer))
            constants[name].append(float(minus_log - prior.logpdf(w).sum() - objective))
prior_error = max(float(np.ptp(values)) for values in constants.values())
print(f"−log posterior minus n (loss + penalty), for five draws of weights: the same within {prior_error:.1e}")

# %% [markdown]
# The most probable weights under the Gaussian prior have a closed form (ridge regression). Under the Laplace prior,
# the proximal step finds them: take a gradient step, then bring each weight nearer to zero by the same amount. A
# weight that would pass zero stays there.


# %%
def bandwise() -> nn.Linear:
    """Return a linear layer from the 30 bands to the rate."""
    return nn.Linear(30, 1, bias=False).double()


plain = minimize(lambda layer: mse(layer(x), y).mean(), bandwise(), steps=500)
least_squares = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0][:, 0]
least_squares_error = float(np.abs(plain.weight.detach().numpy()[0] - least_squares).max())

ridge = minimize(lambda layer: mse(layer(x), y).mean() + L2(strength).loss(layer), bandwise(), steps=500)
gram, moment = (2 * x.T @ x / n).numpy(), (2 * x.T @ y / n).numpy()
closed = np.linalg.solve(gram + strength * np.eye(30), moment)[:, 0]
ridge_error = float(np.abs(ridge.weight.detach().numpy()[0] - closed).max())

lasso, proximal = bandwise(), ProximalL1(strength)
optimizer = torch.optim.SGD(lasso.parameters(), lr=float(0.5 / torch.linalg.eigvalsh(x.T @ x / n)[-1]))
for _ in range(3000):
    optimizer.zero_grad()
    mse(lasso(x), y).mean().backward()
    optimizer.step()
    proximal.after_step(optimizer)
optimizer.zero_grad()
mse(lasso(x), y).mean().backward()
w, slope = (values.detach().numpy()[0] for values in (lasso.weight, lasso.weight.grad))

# At the maximum, the slope of the likelihood balances the prior. At a zero, it is not larger than the prior.
balance = np.where(w == 0, np.maximum(np.abs(slope) - strength, 0), np.abs(slope + strength * np.sign(w)))
lasso_error, zeros = float(balance.max()), int((w == 0).sum())
print(f"no prior against least squares: {least_squares_error:.1e}; L2 against its closed form: {ridge_error:.1e}")
print(f"L1, imbalance at the maximum: {lasso_error:.1e}; of 30 weights, L1 sets {zeros} to zero, L2 none")

# %%
with use_style():
    figure = new_figure(11, 5)
    places = figure.subplots(3, 1, sharex=True)
    titles = (
        "No prior: maximum likelihood",
        "Gaussian prior (L2): all are smaller",
        "Laplace prior (L1): most are zero",
    )
    for axes, values, color, title in zip(
        places, (least_squares, closed, w), (FAINT, BLUE, VERMILLION), titles, strict=True
    ):
        axes.bar(frequency, values, width=0.32, color=color)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_title(title, fontsize=11)
    places[1].set_ylabel("weight")
    places[-1].set_xlabel("frequency in lead II (Hz); 1 Hz is 60 beats per minute")
figure

# %% [markdown]
# ### From prior to posterior
#
# The posterior is a whole distribution, not only its most probable point. With a Gaussian prior and a squared error
# it is Gaussian again, with the precision (the inverse covariance) 2 Σ xxᵀ + nλ. Each record adds to it. So the
# posterior can also be computed record by record: the posterior of one record is the prior of the next.

# %%
covariance = np.eye(30) / (n * strength)
mean = np.zeros(30)
history = {0: (mean, covariance)}
for number, (features, target) in enumerate(zip(x.numpy(), y.numpy()[:, 0], strict=True), 1):
    gain = covariance @ features / (0.5 + features @ covariance @ features)
    mean = mean + gain * (target - features @ mean)
    covariance = covariance - np.outer(gain, features @ covariance)
    history[number] = (mean, covariance)
at_once = np.linalg.inv(2 * x.numpy().T @ x.numpy() + n * strength * np.eye(30))
posterior_error = float(max(np.abs(mean - closed).max(), np.abs(covariance - at_once).max()))
print(f"record by record, and all at once: mean and covariance differ by {posterior_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    best = int(np.abs(closed / np.sqrt(np.diag(at_once))).argmax())
    worst = int(np.abs(closed / np.sqrt(np.diag(at_once))).argmin())
    for axes, band in zip(figure.subplots(1, 2, sharex=True, sharey=True), (best, worst), strict=True):
        grid = np.linspace(-0.6, 0.6, 400)
        for number, color in ((0, FAINT), (10, ORANGE), (60, BLUE), (n, VERMILLION)):
            centre, deviation = history[number][0][band], np.sqrt(history[number][1][band, band])
            name = "prior" if number == 0 else f"after {number} records"
            axes.plot(grid, stats.norm(centre, deviation).pdf(grid), color=color, label=name)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="weight", title=f"Weight of the band at {frequency[band]:.1f} Hz")
    figure.axes[0].set_ylabel("density")
    figure.axes[0].legend(fontsize=10)
figure

# %% [markdown]
# The records move the left weight away from zero and make it certain. They say little about the right one, which
# stays near its prior. `einthoven evaluate run=… laplace=true` uses such a posterior for the last layer of a network.
#
# ## Augmentation: random changes that keep the label
#
# Training records are a sample of all ECGs. Augmentation draws more of them: it changes a record at random, in a way
# that leaves its diagnosis as it is. The figure shows three seconds of one record. Grey is the record, blue the
# changed one, and red their difference in the lead that changes most.

# %%
transforms = (
    AmplitudeScale(spread=0.4),
    TimeShift(),
    TimeStretch(spread=0.15),
    BaselineWander(max_amplitude=0.3),
    MuscleNoise(max_std=0.1),
    LeadDropout(probability=0.2),
    TimeMask(),
    VCGRotation(max_angle=40),
    Mixup(alpha=1.0),
)
drawn = torch.Generator().manual_seed(0)
rows = [clear_record(ecgs), *range(7)]
x, y = torch.from_numpy(ecgs.signals[rows]), torch.from_numpy(ecgs.labels[rows])
shown = [LEADS.index(name) for name in ("II", "V2")]
gallery, changes = {}, {}
for transform in transforms:
    name = type(transform).__name__
    draws = [transform(x, y, drawn)[0][0] for _ in range(40)]
    changes[name] = [float((draw - x[0])[shown, :300].abs().mean()) for draw in draws]
    gallery[name] = draws[int(np.argmax(changes[name]))].numpy()
augmentation_figure(x[0].numpy(), gallery, FS, show=("II", "V2"), seconds=3.0)

# %% [markdown]
# `LeadDropout` and `TimeMask` are in the default set. `AmplitudeScale`, `TimeShift`, `TimeStretch` and `VCGRotation`
# can make a label wrong, such as one about voltage or rate. A run refuses them for such labels, unless it is told to
# use them. `Mixup` mixes two records and their labels: a label becomes 0.7 of one class and 0.3 of another.
#
# Next: [4. Optimization](04_optimization.py), the search for good weights.
