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
# A network says 0.87: that is a probability. A loss measures how improbable the labels are. A penalty states what we
# believe about the weights before we see data. Each of them comes from a distribution:
#
# | what is predicted or assumed | distribution | its negative logarithm |
# |---|---|---|
# | a quantity, such as the heart rate | Gaussian | squared error |
# | yes or no: is the ECG normal? | Bernoulli | binary cross-entropy |
# | one of several classes | categorical | cross-entropy |
# | weights are small | Gaussian prior | L2 penalty |
# | most weights are zero | Laplace prior | L1 penalty |
#
# The losses are those of the package. They are compared with the distributions of `scipy.stats`.

# %%
# %matplotlib inline
import numpy as np
import torch
from ecgs import CLASSES, FS, clear_record, read_ecgs
from scipy import optimize, stats
from sklearn.naive_bayes import GaussianNB
from torch import nn

from einthoven.augment.amplitude import AmplitudeScale
from einthoven.augment.masks import LeadDropout, TimeMask
from einthoven.augment.mix import Mixup
from einthoven.augment.noise import BaselineWander, MuscleNoise
from einthoven.functional.bayes import posterior, predictive_values
from einthoven.functional.beats import detect_beats, heart_rate
from einthoven.functional.leads import LEADS
from einthoven.functional.qrs_edges import qrs_duration
from einthoven.functional.representative_beat import representative_beat
from einthoven.losses.classification import binary_cross_entropy, cross_entropy
from einthoven.losses.regression import mse
from einthoven.models.init import xavier
from einthoven.models.mlp import MLP
from einthoven.models.norms import feature_norm
from einthoven.optim.penalties import L1, L2, ProximalL1
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
# A distribution says how likely each outcome is. The *expectation* is its mean. The *variance* is the mean squared
# distance from the mean, and its root is the standard deviation σ. The *covariance* says whether two quantities grow
# together (notebook 1 uses it for the leads).
#
# The mean of B records is not exact. Its standard deviation is σ/√B: four times the records, half the error. The
# gradient of a batch is such a mean, so this is also the noise of a training step.

# %%
generator = np.random.default_rng(0)
sizes = 2 ** np.arange(8)
spread = [generator.choice(rate[:, 0].numpy(), (4000, size)).mean(axis=1).std() for size in sizes]
sigma = float(rate.std(correction=0))
root_error = float(np.abs(np.array(spread) * np.sqrt(sizes) / sigma - 1).max())
print(f"mean {rate.mean():.1f}, standard deviation {sigma:.1f} beats per minute; σ/√B holds within {root_error:.1%}")
covariance = float(np.cov(rate[:, 0], duration_ms)[0, 1])
print(f"covariance of rate and QRS duration: {covariance:.1f} ms per minute")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    left.hist(rate[:, 0], bins=24, density=True, color=BLUE, alpha=0.35)
    grid = np.linspace(30, 150, 200)
    left.plot(grid, stats.norm(float(rate.mean()), sigma).pdf(grid), color=INK)
    left.set(xlabel="heart rate (beats per minute)", ylabel="density", title="The rates, and a Gaussian")
    right.loglog(sizes, spread, "o", color=BLUE, label="4,000 means of B records")
    right.loglog(sizes, sigma / np.sqrt(sizes), "--", color=INK, label="σ/√B")
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    right.minorticks_off()
    right.set(xlabel="records, B", ylabel="standard deviation (per minute)", title="The error of a mean")
    right.legend()
figure

# %% [markdown]
# ### Where a network needs them
#
# *Batch normalization* subtracts the mean of a batch and divides by its standard deviation.
#
# *Initialization* draws the first weights at random. With k inputs of mean square m, a weighted sum has the variance
# k · Var(w) · m, and ReLU halves the mean square. So Var(w) = 2/k keeps the size of a signal (He). With a little less
# or more, the signal vanishes or explodes over 20 layers.

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
# A textbook says P(wide QRS | conduction disturbance). A patient with a wide QRS wants to know the opposite,
# P(conduction disturbance | wide QRS). Bayes' rule computes it:
#
# > P(c | x) = P(x | c) P(c) / Σₖ P(x | k) P(k)
#
# P(c) is the *prior*: what we know before the measurement. P(c | x) is the *posterior*. Here, x is the QRS duration,
# with one Gaussian for the records with a conduction disturbance (CD), and one for the others. `model=naive_bayes`
# does this with many measurements.

# %%
has_cd = labels[:, CLASSES.index("CD")] == 1
groups = [stats.norm(duration_ms[side].mean(), duration_ms[side].std()) for side in (~has_cd, has_cd)]
share = float(has_cd.mean())
axis = np.linspace(85, 180, 191)
log_likelihood = np.stack([group.logpdf(axis) for group in groups], axis=1)
by_rule = posterior([1 - share, share], log_likelihood)[:, 1]
formula = groups[1].pdf(axis) * share / (groups[1].pdf(axis) * share + groups[0].pdf(axis) * (1 - share))
bayes_error = float(np.abs(by_rule - formula).max())
bayes_model = GaussianNB(var_smoothing=0).fit(duration_ms[:, None], has_cd)
sklearn_error = float(np.abs(bayes_model.predict_proba(axis[:, None])[:, 1] - by_rule).max())
print(f"the formula differs by {bayes_error:.1e}, scikit-learn's naive Bayes by {sklearn_error:.1e}")

# %% [markdown]
# The same QRS means something else where the disease is rare. With 2 % CD, most alarms of a simple test are false.

# %%
rare = posterior([0.98, 0.02], log_likelihood)[:, 1]
wide = duration_ms > 110
sensitivity, specificity = float(wide[has_cd].mean()), float((~wide)[~has_cd].mean())
ppv = {prior: float(predictive_values(sensitivity, specificity, prior)[0]) for prior in (share, 0.02)}
ppv_error = abs(ppv[share] - has_cd[wide].mean())
print(f"the test finds {sensitivity:.0%} of CD, and is right for {specificity:.0%} of the others")
print(f"of the records above 110 ms, {ppv[share]:.0%} have CD here; with 2 % CD it would be {ppv[0.02]:.0%}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    bins = np.arange(60, 184, 6)
    grid = np.linspace(60, 180, 241)
    for side, group, weight, color, name in (
        (~has_cd, groups[0], 1 - share, GREEN, "without CD"),
        (has_cd, groups[1], share, VERMILLION, "with CD"),
    ):
        left.hist(duration_ms[side], bins=bins, color=color, alpha=0.3)
        left.plot(grid, group.pdf(grid) * weight * n * 6, color=color, label=name)
    left.set(xlabel="QRS duration (ms)", ylabel="records", title="P(x | c) P(c)")
    left.legend()
    right.plot(axis, by_rule, color=VERMILLION, label=f"prior {share:.0%}, as here")
    right.plot(axis, rare, "--", color=VERMILLION, label="prior 2 %")
    right.set(xlabel="QRS duration (ms)", ylabel="P(CD | QRS duration)", title="Posterior")
    right.legend()
figure

# %% [markdown]
# ## Maximum likelihood: where losses come from
#
# *Maximum likelihood* chooses the parameters that make the observed data most probable. A loss is the negative
# logarithm of this probability: the logarithm turns the product over the records into a sum.
#
# - **A quantity** is a Gaussian around μ: −log p(y | μ) = (y − μ)² / 2σ² + constant. This is the squared error.
# - **Yes or no**: −y log p − (1 − y) log(1 − p), the binary cross-entropy.
# - **One of several classes**: a softmax output is a distribution, and −log of the true class is the cross-entropy.

# %%
guesses = np.linspace(50, 110, 121)
squared = np.array([float(mse(torch.full_like(rate, mu), rate).mean()) for mu in guesses])
from_squared = squared / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
from_scipy = np.array([-stats.norm(mu, sigma).logpdf(rate.numpy()).mean() for mu in guesses])
gaussian_error = float(np.abs(from_scipy - from_squared).max())
best_rate = float(guesses[squared.argmin()])
print(f"Gaussian: the two sides differ by {gaussian_error:.1e}; minimum at {best_rate:.1f}, mean {rate.mean():.1f}")

logits = torch.linspace(-6, 6, 121, dtype=torch.float64)[:, None]
p = logits.sigmoid().numpy()[:, 0]
bce = {label: binary_cross_entropy(logits, torch.full_like(logits, label)).numpy() for label in (0.0, 1.0)}
bernoulli_error = max(float(np.abs(bce[k] + stats.bernoulli(p).logpmf(k)).max()) for k in (0, 1))

one_hot = torch.from_numpy(labels[labels.sum(axis=1) == 1])
some_logits = torch.randn(one_hot.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ce = cross_entropy(some_logits, one_hot, output="softmax").numpy()
pmf = stats.multinomial(1, some_logits.softmax(dim=1).numpy()).logpmf(one_hot.numpy())
categorical_error = float(np.abs(ce + pmf).max())
print(f"Bernoulli: the two sides differ by {bernoulli_error:.1e}; categorical: by {categorical_error:.1e}")

# %% [markdown]
# So training with cross-entropy *is* maximum likelihood. A layer that is trained with the loss, and an optimizer of
# scipy that maximizes the likelihood, find the same two numbers.


# %%
def minimize(objective, layer, steps=500):
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


def minus_log_likelihood(slope_and_intercept):
    """Return the negative log-likelihood of a logistic regression."""
    slope, intercept = slope_and_intercept
    chance = 1 / (1 + np.exp(-(slope * width.numpy() + intercept)))
    return -stats.bernoulli(chance).logpmf(normal.numpy()).sum()


width = torch.from_numpy((duration_ms - 100) / 20)[:, None]
normal = torch.from_numpy(labels[:, [CLASSES.index("NORM")]])
logistic = minimize(lambda layer: binary_cross_entropy(layer(width), normal).mean(), nn.Linear(1, 1).double())
by_loss = np.array([logistic.weight.item(), logistic.bias.item()])
by_likelihood = optimize.minimize(minus_log_likelihood, np.zeros(2), tol=1e-10).x
print("slope and intercept by the loss:", by_loss.round(4), "by the likelihood:", by_likelihood.round(4))

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    for label, color, name in ((1.0, GREEN, "the ECG is normal"), (0.0, VERMILLION, "it is not normal")):
        left.plot(p, bce[label], color=color, label=name)
    left.set(xlabel="answer p of the network", ylabel="loss (nats)", title="Binary cross-entropy", ylim=(0, 5))
    left.legend(loc="upper center")
    jitter = np.random.default_rng(0).uniform(-0.04, 0.04, n)
    right.scatter(duration_ms, normal[:, 0].numpy() + jitter, s=14, color=BLUE, alpha=0.4, linewidths=0)
    grid = torch.linspace(60, 180, 100, dtype=torch.float64)[:, None]
    right.plot(grid, logistic((grid - 100) / 20).sigmoid().detach(), color=INK)
    right.set(xlabel="QRS duration (ms)", ylabel="P(normal)", title="Maximum likelihood: one curve for all records")
figure

# %% [markdown]
# (Label smoothing, `loss=focal` and `loss=asymmetric` are no likelihoods. Their outputs need a calibration.)
#
# ## A penalty is a prior
#
# Bayes' rule for weights: the posterior is the likelihood times the prior.
#
# > −log P(w | data) = Σᵢ −log P(yᵢ | w) − log P(w) + constant
#
# So the most probable weights minimize loss + penalty. L2 with the strength λ (*weight decay*) is a Gaussian prior
# with the variance 1/(nλ), for n records: we believe that most weights are small. L1 is a Laplace prior with the
# scale 1/(nλ). The example predicts the heart rate from the power of lead II in 30 frequency bands.

# %%
spectrum = np.abs(np.fft.rfft(signals[:, LEADS.index("II")] * np.hanning(signals.shape[-1]))) ** 2
bands = np.log(np.stack([band.mean(axis=1) for band in np.array_split(spectrum[:, 5:125], 30, axis=1)], axis=1))
x = torch.from_numpy((bands - bands.mean(axis=0)) / bands.std(axis=0))
y = (rate - rate.mean()) / sigma
frequency = np.linspace(0.5, 12.5, 30)

strength = 0.3
gaps = []
for penalty, prior in (
    (L2(strength), stats.norm(0, 1 / np.sqrt(n * strength))),
    (L1(strength), stats.laplace(0, 1 / (n * strength))),
):
    layers = [nn.Linear(30, 1, bias=False).double() for _ in range(5)]
    constants = [-prior.logpdf(each.weight.detach()).sum() - n * float(penalty.loss(each)) for each in layers]
    gaps.append(float(np.ptp(constants)))
prior_error = max(gaps)
print(f"−log prior minus n · penalty is the same for five draws of weights, within {prior_error:.1e}")

# %% [markdown]
# With the Gaussian prior, the best weights have a formula (ridge regression; the squared error is a Gaussian with σ²
# = 1/2). With the Laplace prior, a *proximal step* finds them: after each gradient step, it brings each weight nearer
# to zero by the same amount. A weight that would cross zero stays at zero.

# %%
least_squares = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0][:, 0]

ridge = nn.Linear(30, 1, bias=False).double()
minimize(lambda layer: mse(layer(x), y).mean() + L2(strength).loss(layer), ridge)
gram, moment = (2 * x.T @ x / n).numpy(), (2 * x.T @ y / n).numpy()
closed = np.linalg.solve(gram + strength * np.eye(30), moment)[:, 0]
ridge_error = float(np.abs(ridge.weight.detach().numpy()[0] - closed).max())

lasso, proximal = nn.Linear(30, 1, bias=False).double(), ProximalL1(strength)
optimizer = torch.optim.SGD(lasso.parameters(), lr=float(0.5 / torch.linalg.eigvalsh(x.T @ x / n)[-1]))
for _ in range(3000):
    optimizer.zero_grad()
    mse(lasso(x), y).mean().backward()
    optimizer.step()
    proximal.after_step(optimizer)
optimizer.zero_grad()
mse(lasso(x), y).mean().backward()
w, slope = (values.detach().numpy()[0] for values in (lasso.weight, lasso.weight.grad))

# At the optimum, the slope of the loss balances the penalty. At a zero weight, it is not larger than the penalty.
balance = np.where(w == 0, np.maximum(np.abs(slope) - strength, 0), np.abs(slope + strength * np.sign(w)))
lasso_error, zeros = float(balance.max()), int((w == 0).sum())
print(f"L2, from its formula: {ridge_error:.1e}; L1, imbalance at the optimum: {lasso_error:.1e}")
print(f"of 30 weights, L1 sets {zeros} to zero, L2 none")

# %%
with use_style():
    figure = new_figure(11, 5)
    places = figure.subplots(3, 1, sharex=True, sharey=True)
    titles = (
        "No prior: maximum likelihood",
        "Gaussian prior (L2): the weights are smaller",
        "Laplace prior (L1): most weights are zero",
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
# ### The posterior of a weight
#
# The posterior is a distribution, not only its most probable point. Here it is Gaussian, and the inverse of its
# covariance is 2 Σ xxᵀ + nλ. Each record adds its term.

# %%
belief = {}
for number in (0, 10, 60, n):
    inputs, targets = x[:number].numpy(), y[:number].numpy()[:, 0]
    covariance = np.linalg.inv(2 * inputs.T @ inputs + n * strength * np.eye(30))
    belief[number] = covariance @ (2 * inputs.T @ targets), np.sqrt(np.diag(covariance))
posterior_error = float(np.abs(belief[n][0] - closed).max())
print(f"mean of the posterior after all records, and the most probable weights: differ by {posterior_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    certainty = np.abs(belief[n][0] / belief[n][1])
    bands_shown = (int(certainty.argmax()), int(certainty.argmin()))
    for axes, band in zip(figure.subplots(1, 2, sharex=True, sharey=True), bands_shown, strict=True):
        grid = np.linspace(-0.6, 0.6, 400)
        for (number, (centre, deviation)), color in zip(belief.items(), (FAINT, ORANGE, BLUE, VERMILLION), strict=True):
            name = "prior" if number == 0 else f"after {number} records"
            axes.plot(grid, stats.norm(centre[band], deviation[band]).pdf(grid), color=color, label=name)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="weight", title=f"Weight of the band at {frequency[band]:.1f} Hz")
    figure.axes[0].set_ylabel("density")
    figure.axes[0].legend(fontsize=10)
figure

# %% [markdown]
# On the left, the records move the weight away from zero, and make it certain. On the right, the posterior stays near
# the prior. `einthoven evaluate run=… laplace=true` computes such a posterior for the last layer of a network.
#
# ## Augmentation: random changes that keep the label
#
# Augmentation makes more training records: it changes a record at random, so that its diagnosis stays the same. The
# figure shows lead V2 of one record (grey), and of the changed record (blue).

# %%
transforms = {
    "AmplitudeScale: another height": AmplitudeScale(spread=0.4),
    "MuscleNoise": MuscleNoise(max_std=0.1),
    "BaselineWander": BaselineWander(max_amplitude=0.3),
    "TimeMask: a moment is hidden": TimeMask(),
    "LeadDropout: a lead is hidden": LeadDropout(probability=0.2),
    "Mixup: the mean of two records": Mixup(alpha=10.0),
}
drawn = torch.Generator().manual_seed(0)
rows = [clear_record(ecgs), *range(7)]
x, y = torch.from_numpy(ecgs.signals[rows]), torch.from_numpy(ecgs.labels[rows])
lead = LEADS.index("V2")
gallery, changes = {}, {}
for name, transform in transforms.items():
    draws = [transform(x, y, drawn)[0][0, lead, :300] for _ in range(40)]
    changes[name] = [float((draw - x[0, lead, :300]).abs().mean()) for draw in draws]
    # Show the draw with the largest change.
    gallery[name] = draws[int(np.argmax(changes[name]))]

# %%
with use_style():
    figure = new_figure(11, 6)
    for axes, (name, draw) in zip(figure.subplots(3, 2, sharex=True, sharey=True).flat, gallery.items(), strict=True):
        axes.plot(np.arange(300) / FS, x[0, lead, :300], color=FAINT, linewidth=3)
        axes.plot(np.arange(300) / FS, draw, color=BLUE, linewidth=1.2)
        axes.set_title(name, fontsize=11)
    for axes in figure.axes[::2]:
        axes.set_ylabel("V2 (mV)")
    for axes in figure.axes[-2:]:
        axes.set_xlabel("s")
figure

# %% [markdown]
# The default set hides leads and moments. Another amplitude can look like hypertrophy, so a run refuses it for such
# labels. `Mixup` mixes the labels, too, for example 0.7 of one class and 0.3 of another.
#
# Next: [4. Optimization](04_optimization.py), the search for good weights.
