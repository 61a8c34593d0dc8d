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
# # Where the losses come from: maximum likelihood, on ECGs
#
# A loss looks like a choice of taste. It is not: most of them say how improbable the data are if the model is
# right. Choose a distribution for what you want to predict, and the loss follows:
#
# | what is predicted | distribution | minus log-likelihood |
# |---|---|---|
# | a quantity: heart rate | Gaussian | squared error |
# | yes or no: normal? | Bernoulli | binary cross-entropy |
# | one of several: superclass | categorical | cross-entropy |
# | … and what you believe of the weights | a prior | a penalty: L2, L1 |
#
# Each line is shown here on generated ECGs, with the package's own losses on one side and the distributions of
# `scipy.stats`, which know nothing of losses, on the other. Then come losses that are no likelihoods, and
# what they cost. It takes some seconds on one core.

# %%
# %matplotlib inline
import numpy as np
import torch
from scipy import optimize, stats
from torch import nn

from einthoven.data.synthetic import generate
from einthoven.data.synthetic.statements import STATEMENTS
from einthoven.functional.beats import detect_beats, heart_rate
from einthoven.functional.information import (
    bernoulli_cross_entropy,
    bernoulli_entropy,
    bernoulli_kl,
    categorical_cross_entropy,
    categorical_entropy,
    categorical_kl,
)
from einthoven.functional.leads import LEADS
from einthoven.functional.qrs_edges import qrs_duration
from einthoven.functional.representative_beat import representative_beat
from einthoven.losses.classification import asymmetric, binary_cross_entropy, cross_entropy, focal
from einthoven.losses.regression import mse
from einthoven.optim.penalties import L1, L2, ProximalL1
from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILLION, new_figure, use_style

# %% [markdown]
# ## The records, and three questions
#
# A hundred and sixty ten-second records; no measured ECG and no person is behind them. Of each we ask how fast
# the heart beats (measured from its RR intervals), whether it is normal, and which superclass it has.

# %%
fs = 100
corpus = generate(160, seed=2, rates=(fs,))
signals = corpus.signals[fs] / 1000.0  # µV -> mV
beats = detect_beats(signals, fs)
rate = torch.from_numpy(heart_rate(beats, fs))[:, None]
superclasses = [
    {STATEMENTS[code].superclass for code in recording.statements} - {""} for recording in corpus.recordings
]
classes = sorted(set().union(*superclasses))
normal = torch.tensor([[float("NORM" in found)] for found in superclasses], dtype=torch.float64)
n = len(rate)
print(f"{n} records: {rate.mean():.1f} ± {rate.std():.1f} beats per minute, {int(normal.sum())} normal; {classes}")

# %%
ecg_paper_figure(
    signals[0].astype(np.float32),
    fs,
    title=f"{rate[0, 0]:.0f} beats per minute, {' '.join(sorted(superclasses[0]))}",
    dpi=90,
)

# %% [markdown]
# ## 1. A quantity: the squared error is a Gaussian
#
# Say nothing of the ECG, and predict one number μ for all: the heart beats μ times a minute, give or take σ.
# The probability density of an observed rate y is then
#
# $$p(y \mid \mu) = \frac{1}{\sqrt{2\pi\sigma^2}}\, e^{-(y-\mu)^2 / 2\sigma^2}
# \qquad -\log p = \frac{(y-\mu)^2}{2\sigma^2} + \tfrac12 \log 2\pi\sigma^2$$
#
# The logarithm turns the product over records into a sum, and the exponential into a square. σ only stretches the
# square and adds a constant, so both have their minimum in the same place: the mean.

# %%
sigma = float(rate.std(correction=0))
guesses = np.linspace(50, 110, 121)
squared = np.array([mse(torch.full_like(rate, mu), rate).mean() for mu in guesses])
likelihood = np.array([-stats.norm(mu, sigma).logpdf(rate).mean() for mu in guesses])
from_squared = squared / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
gaussian_error = float(np.abs(likelihood - from_squared).max())
best_rate = guesses[squared.argmin()]
print(f"largest difference of the two curves: {gaussian_error:.1e} nats")
print(f"minimum at {best_rate:.1f}, mean of the rates {rate.mean():.1f}")

# %%
with use_style():
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    left.hist(rate[:, 0], bins=24, density=True, color=BLUE, alpha=0.35)
    left.plot(guesses, stats.norm(float(rate.mean()), sigma).pdf(guesses), color=INK)
    left.set(xlabel="heart rate (beats per minute)", title="The rates, and the Gaussian that fits best")
    right.plot(guesses, from_squared, color=ORANGE, linewidth=5, label="squared error, scaled and shifted")
    right.plot(guesses, likelihood, color=INK, linewidth=1.5, label="−log likelihood, scipy")
    right.axvline(float(rate.mean()), color=FAINT, linewidth=1)
    right.set(xlabel="μ", ylabel="nats per record", title="Two names of one curve")
    right.legend()
figure

# %% [markdown]
# The fit is not perfect: hearts that race are more frequent than a Gaussian allows. A squared error believes in
# it all the same, and so pays most attention to those.
#
# Now let μ depend on the ECG. The rhythm of a heart is in the spectrum of its signal, so take the power of lead
# II in thirty bands, and let a linear layer predict the rate from it. What the layer misses is, if the
# assumption holds, Gaussian again.

# %%
spectrum = np.abs(np.fft.rfft(signals[:, LEADS.index("II")] * np.hanning(signals.shape[-1]))) ** 2
bands = np.log(np.stack([band.mean(axis=1) for band in np.array_split(spectrum[:, 5:125], 30, axis=1)], axis=1))
x = torch.from_numpy((bands - bands.mean(axis=0)) / bands.std(axis=0))
y = (rate - rate.mean()) / sigma  # in standard deviations
frequency = np.linspace(0.5, 12.5, 30)


def minimize(objective, layer, steps=60):
    """Full-batch L-BFGS: the minimum, to the last digit."""
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


plain = minimize(lambda layer: mse(layer(x), y).mean(), nn.Linear(30, 1, bias=False).double(), steps=500)
least_squares = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0][:, 0]
least_squares_error = float(np.abs(plain.weight.detach().numpy()[0] - least_squares).max())
residual = sigma * (plain(x) - y).detach()
print(f"gradient descent on mse against least squares: {least_squares_error:.1e}")
print(f"standard deviation of the rates {sigma:.1f}, of what the layer misses {residual.std():.1f} beats per minute")

# %% [markdown]
# ## 2. Yes or no: binary cross-entropy is a Bernoulli distribution
#
# A network gives any real number, the logit z; the sigmoid makes a probability of it. If the ECG is normal with
# probability p, then what was observed had the probability p or 1 − p, and
#
# $$-\log P(y \mid p) = -y \log p - (1-y) \log (1-p)$$

# %%
logits = torch.linspace(-6, 6, 121, dtype=torch.float64)[:, None]
p = logits.sigmoid().numpy()[:, 0]
bce = {label: binary_cross_entropy(logits, torch.full_like(logits, label)).numpy() for label in (0.0, 1.0)}
bernoulli_error = max(float(np.abs(bce[k] + stats.bernoulli(p).logpmf(k)).max()) for k in (0, 1))
print(f"largest difference from scipy's Bernoulli: {bernoulli_error:.1e} nats")

# %% [markdown]
# Fitted to one measurement, the duration of the QRS complex, this is logistic regression. The layer below has never
# seen a likelihood, and scipy's optimizer has never seen a loss; they find the same two numbers.

# %%
duration = torch.from_numpy(1000 * qrs_duration(representative_beat(signals, beats, fs), fs))[:, None]
known = duration.isfinite()[:, 0]
width = ((duration[known] - 100) / 20).double()
logistic = minimize(
    lambda layer: binary_cross_entropy(layer(width), normal[known]).mean(), nn.Linear(1, 1).double(), steps=200
)
by_loss = np.array([logistic.weight.item(), logistic.bias.item()])


def minus_log_likelihood(ab):
    """Of a slope and an intercept, in scipy's words."""
    chance = 1 / (1 + np.exp(-(ab[0] * width.numpy() + ab[1])))
    return -stats.bernoulli(chance).logpmf(normal[known].numpy()).sum()


by_likelihood = optimize.minimize(minus_log_likelihood, np.zeros(2), tol=1e-10).x
print("slope and intercept, by the loss:", by_loss.round(4), " by the likelihood:", by_likelihood.round(4))

# %%
with use_style():
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    for label, color, name in ((1.0, GREEN, "normal"), (0.0, VERMILLION, "not normal")):
        left.plot(p, bce[label], color=color, label=name)
    left.set(xlabel="p of normal", ylabel="nats", title="Binary cross-entropy: the price of p", ylim=(0, 5))
    left.legend()
    jitter = np.random.default_rng(0).uniform(-0.04, 0.04, int(known.sum()))
    right.scatter(duration[known, 0], normal[known, 0].numpy() + jitter, s=14, color=BLUE, alpha=0.4, linewidths=0)
    grid = torch.linspace(60, 180, 100, dtype=torch.float64)[:, None]
    right.plot(grid, logistic((grid - 100) / 20).sigmoid().detach(), color=INK)
    right.set(
        xlabel="QRS duration (ms)",
        ylabel="normal",
        xlim=(60, 200),
        title="Maximum likelihood: the wider, the less normal",
    )
figure

# %% [markdown]
# ## 3. One of several: cross-entropy is a categorical distribution
#
# With several classes of which exactly one holds, the softmax makes a distribution of the logits, and the loss
# is minus the logarithm of the probability of what was the case.

# %%
single = [next(iter(found)) for found in superclasses if len(found) == 1]
one_hot = torch.tensor([[float(name == found) for name in classes] for found in single], dtype=torch.float64)
some_logits = torch.randn(one_hot.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ce = cross_entropy(some_logits, one_hot, output="softmax").numpy()
pmf = stats.multinomial(1, some_logits.softmax(dim=1).numpy()).logpmf(one_hot.numpy())
categorical_error = float(np.abs(ce + pmf).max())
print(f"largest difference from scipy's multinomial: {categorical_error:.1e} nats")

# %% [markdown]
# ## 4. What no model can remove: cross-entropy = entropy + KL
#
# Say nothing of the ECG, and predict one distribution q for all. If the classes have the shares p, the expected
# loss falls into two parts:
#
# $$H(p, q) = \underbrace{H(p)}_{\text{uncertain}} + \underbrace{\mathrm{KL}(p \,\|\, q)}_{\text{wrong}}$$
#
# The best q is p itself, and then the loss is the entropy: a classifier with a higher loss than this has learned
# less than to count.

# %%
shares = one_hot.mean(dim=0)
guesses_q = {
    "the shares": shares,
    "all alike": torch.full_like(shares, 1 / len(classes)),
    "the shares, backwards": shares.flip(0),
}
parts = {
    name: (
        float(categorical_entropy(shares)),
        float(categorical_kl(shares, q)),
        float(categorical_cross_entropy(shares, q)),
    )
    for name, q in guesses_q.items()
}
counted = {
    name: float(cross_entropy(q.log().expand_as(one_hot), one_hot, output="softmax").mean())
    for name, q in guesses_q.items()
}
kl_error = max(abs(parts[name][0] + parts[name][1] - counted[name]) for name in parts)
for name, (entropy, kl, _) in parts.items():
    print(
        f"{name:<22} entropy {entropy:.3f} + KL {kl:.3f} = {entropy + kl:.3f}; loss of the records {counted[name]:.3f}"
    )

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    left.bar(classes, shares.numpy(), color=BLUE)
    left.set(title="Shares of the superclasses", ylabel="share")
    names = list(parts)
    entropies, divergences = (np.array([parts[name][k] for name in names]) for k in (0, 1))
    right.barh(names, entropies, color=FAINT, label="entropy")
    right.barh(names, divergences, left=entropies, color=VERMILLION, label="KL")
    right.invert_yaxis()
    right.set(xlabel="nats", title="Cross-entropy of a constant prediction")
    right.legend()
figure

# %% [markdown]
# A soft label has an entropy of its own. Mixup makes one of two records, 0.7 of the one and 0.3 of the other, and
# the loss of a perfect answer is then not zero:

# %%
soft, answer = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)
soft_parts = [
    float(f) for f in (bernoulli_entropy(soft), bernoulli_kl(soft, answer), bernoulli_cross_entropy(soft, answer))
]
soft_error = abs(soft_parts[0] + soft_parts[1] - soft_parts[2])
print("label 0.7, answer 0.6: entropy {:.3f} + KL {:.3f} = cross-entropy {:.3f}".format(*soft_parts))

# %% [markdown]
# ## 5. Departures: label smoothing, focal, asymmetric
#
# Take all records that look alike, of which the share π is normal. Maximum likelihood answers p = π: the probability
# means what it says. Other losses are no likelihoods, and their best answer is another one. It can be computed:
# for each π, the p at which the expected loss π · loss(p, 1) + (1 − π) · loss(p, 0) is smallest.

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
    of_one, of_none = (loss(fine, torch.full_like(fine, label)).numpy() for label in (1.0, 0.0))
    expected = pi[:, None] * of_one + (1 - pi[:, None]) * of_none
    answers[name] = fine.sigmoid().numpy()[expected.argmin(axis=1), 0]
smoothed_error = float(np.abs(answers["label smoothing 0.2"] - (0.8 * pi + 0.1)).max())
for name, found in answers.items():
    print(f"{name:<20} answers {found[np.abs(pi - 0.2).argmin()]:.2f} where one in five is normal")

# %%
with use_style():
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    for (name, found), color in zip(answers.items(), (INK, BLUE, VERMILLION, GREEN), strict=True):
        axes.plot(pi, found, color=color, label=name)
    axes.set(xlabel="share that is normal, π", ylabel="best answer, p", aspect="equal", title="What each loss asks for")
    axes.legend()
figure

# %% [markdown]
# Cross-entropy lies on the diagonal. Label smoothing never answers below ε/2: it mixes a coin into every label.
# Focal draws everything towards the middle, and asymmetric says yes far too soon, because forgotten negatives no
# longer pull it down. All may rank the records as well, or better, and training with them can be easier; but their
# outputs are not probabilities until `einthoven evaluate` has calibrated them.
#
# ## 6. Penalties are beliefs about weights
#
# Bayes' rule adds one factor: how probable the weights were before any ECG was seen.
#
# $$-\log P(w \mid \text{data}) = \sum_i -\log P(y_i \mid w) - \log P(w) + \text{const}$$
#
# A Gaussian prior is the L2 penalty, a Laplace prior the L1 penalty: the most probable weights a posteriori (MAP)
# minimize loss + penalty. The loss is a mean over n records, so a strength λ is a prior of variance 1/(nλ), or
# of scale 1/(nλ). (With K labels at once, the loss is also a mean over the K classes: there it is 1/(nKλ).) And a mean
# squared error is the likelihood of σ² = 1/2. For any weights at all, the two sides
# differ by one constant:

# %%
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
            objective = n * (mse(layer(x), y).mean() + penalty.loss(layer))
            constants[name].append(float(minus_log - prior.logpdf(w).sum() - objective))
prior_error = max(np.ptp(values) for values in constants.values())
for name, values in constants.items():
    print(f"{name}: minus log posterior less n · (loss + penalty), five draws of weights: {np.round(values, 6)}")

# %% [markdown]
# So let us look for the most probable weights of the thirty bands. Under the Gaussian prior they have a closed form
# (ridge regression). Under the Laplace prior they have none, but the proximal step finds them: the gradient, then
# each weight a little nearer to zero, and those that were about to pass it stay there.

# %%
ridge = minimize(
    lambda layer: mse(layer(x), y).mean() + L2(strength).loss(layer), nn.Linear(30, 1, bias=False).double(), steps=500
)
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
# at the maximum the slope of the likelihood balances the prior, and at a zero it may not outweigh it
balance = np.where(w == 0, np.maximum(np.abs(slope) - strength, 0), np.abs(slope + strength * np.sign(w)))
lasso_error, zeros = float(balance.max()), int((w == 0).sum())
print(f"L2 against its closed form: {ridge_error:.1e}; L1, imbalance at the maximum: {lasso_error:.1e}")
print(f"of 30 weights, L1 sets {zeros} to zero, L2 {int((closed == 0).sum())}")

# %%
with use_style():
    figure = new_figure(11, 5.6)
    panels = figure.subplots(3, 1, sharex=True)
    titles = ("No prior: maximum likelihood", "Gaussian prior: all are smaller", "Laplace prior: most are zero")
    for axes, values, color, title in zip(
        panels, (least_squares, closed, w), (FAINT, BLUE, VERMILLION), titles, strict=True
    ):
        axes.bar(frequency, values, width=0.32, color=color)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_title(title, fontsize=11)
    panels[1].set_ylabel("weight")
    panels[-1].set_xlabel("frequency in lead II (Hz)")
figure

# %% [markdown]
# What the Laplace prior leaves can be read: power at 0.9 Hz, 54 beats per minute, makes the prediction slower, power at
# 1.3 Hz, 80 beats per minute, makes it faster.
#
# In a run, the same stand behind `task=heart_rate` (`loss=mse`), `task=superdiagnostic` (`loss=cross_entropy`),
# `task.single_label=true`, `loss=focal`, `penalty=l2` and `penalty=l1_proximal`; `docs/math.md` has them all.
