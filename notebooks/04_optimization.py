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
# # 4. Optimization: the search for good weights
#
# The loss is a landscape: each point is a set of weights, its height is the loss. Calculus gives the slope.
# Optimization says how to walk. This notebook shows, mostly with two weights, so that the landscape can be drawn:
#
# | idea | question |
# |---|---|
# | convex or not | does every start end at the same place? |
# | learning rate | how long is a step, and when is it too long? |
# | batch | how many records decide about a step? |
# | momentum, Adam | what do the last steps say about the next one? |
# | schedule | how does the length of the steps change over a training? |
#
# The optimizers and schedules are those of the package. Their formulas stand beside them, and compute the same steps.

# %%
# %matplotlib inline
import math

import numpy as np
import torch
from ecgs import CLASSES, FS, read_ecgs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from einthoven.diagnostics.curvature import Hessian, sharpness
from einthoven.diagnostics.landscape import interpolation
from einthoven.evaluation.metrics import macro_auroc
from einthoven.functional.beats import detect_beats
from einthoven.functional.qrs_edges import qrs_duration
from einthoven.functional.representative_beat import representative_beat
from einthoven.functional.unit_matching import match_units, permute_units
from einthoven.losses.classification import binary_cross_entropy
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.mlp import MLP
from einthoven.optim.optimizers import adam, adamw, sgd
from einthoven.optim.penalties import L2
from einthoven.optim.schedules import cosine, one_cycle, warmup_stable_decay
from einthoven.report.figures import schedules_figure
from einthoven.report.style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILLION, new_figure, use_style

ecgs = read_ecgs(320)
print(ecgs.source)

# %% [markdown]
# ## A landscape of two weights
#
# The question is whether an ECG is normal. There are two measurements of each record: the duration of its QRS
# complex, and the largest range of a lead within a QRS. The second one is written in a small unit, so its numbers are
# larger. The model is logistic regression without a bias, with a weak L2 penalty.

# %%
signals = ecgs.signals.astype(np.float64)
beat = representative_beat(signals, detect_beats(signals, FS), FS)
duration = qrs_duration(beat, FS)
height = np.ptp(beat[:, :, 35:46], axis=2).max(axis=1)
known = np.isfinite(duration) & np.isfinite(height)


def standardize(values):
    """Return values with mean 0 and standard deviation 1."""
    return (values - values.mean()) / values.std()


features = torch.from_numpy(np.stack([standardize(duration[known]), 4 * standardize(height[known])], axis=1))
normal = torch.from_numpy(ecgs.labels[known][:, [CLASSES.index("NORM")]])
strength = 0.02
n = len(features)


def make_model(w):
    """Return the model with two given weights."""
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(w, dtype=torch.float64))
    return model


def objective(model, rows=slice(None)):
    """Return the mean loss of some records and the penalty."""
    return binary_cross_entropy(model(features[rows]), normal[rows]).mean() + L2(strength).loss(model)


def walk(optimizer_of, start, steps, *, batch=None, schedule=None, seed=0):
    """Return the weights after each step of an optimizer, (steps + 1, 2)."""
    model = make_model(start)
    optimizer = optimizer_of(model)
    generator = torch.Generator().manual_seed(seed)
    path = [model.weight.detach().clone()]
    for step in range(steps):
        rows = slice(None) if batch is None else torch.randint(n, (batch,), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (schedule(step, steps) if schedule else 1.0)
        optimizer.zero_grad()
        objective(model, rows).backward()
        optimizer.step()
        path.append(model.weight.detach().clone())
    return torch.cat(path).numpy()


def gradient_descent(lr):
    """Return plain gradient descent."""
    return lambda model: sgd(model, lr=lr, momentum=0.0, nesterov=False, weight_decay=0.0)


xs, ys = np.linspace(-2.6, 1.6, 61), np.linspace(-1.3, 1.0, 61)
with torch.no_grad():
    surface = np.array([[float(objective(make_model([[i, j]]))) for i in xs] for j in ys])


def draw_landscape(axes, path, color, label=None):
    """Draw a path over lines of equal loss."""
    axes.contour(
        xs, ys, surface, levels=surface.min() + np.geomspace(0.002, surface.max(), 14), colors=FAINT, linewidths=0.8
    )
    axes.plot(*path.T, ".-", color=color, linewidth=1.2, markersize=4, label=label)
    axes.plot(*path[0], "s", color=color)
    axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), xlabel="weight of the duration")
    axes.grid(visible=False)


# %% [markdown]
# ## Convex: one valley
#
# This loss is *convex*: a line between two points of the landscape never runs below it. So there is one valley, and
# every walk downhill ends at its bottom. scikit-learn finds the same point by another way.

# %%
starts = ([[-2.3, 0.8]], [[1.4, 0.8]], [[1.0, -0.8]])
descents = [walk(gradient_descent(0.25), start, 400) for start in starts]
other = LogisticRegression(C=1 / (n * strength), fit_intercept=False, tol=1e-10).fit(features, normal[:, 0])
optimum = other.coef_[0]
convex_error = float(max(np.abs(path[-1] - optimum).max() for path in descents))
print(f"three starts and scikit-learn end at {optimum.round(3)}; the largest difference is {convex_error:.1e}")

# %%
with use_style():
    figure = new_figure(7.5, 4.4)
    axes = figure.add_subplot()
    for path, color in zip(descents, (BLUE, ORANGE, GREEN), strict=True):
        draw_landscape(axes, path, color)
    axes.plot(*optimum, "*", color=VERMILLION, markersize=16, label="the optimum of scikit-learn")
    axes.set(ylabel="weight of the height", title="Three starts, one end")
    axes.legend(loc="lower right")
figure

# %% [markdown]
# ## Not convex: many valleys
#
# A network with a hidden layer is not convex. Train it from two random starts. Both ends are about equally good. But
# half way between them the loss is higher: there is a hill.
#
# One reason is simple. The units of a hidden layer have no order. Two networks that have learned the same units in
# another order are the same function at different points. So look for the order in which the units of the second
# network resemble those of the first one most (an assignment problem), and put them into this order. The function
# does not change at all, and the hill becomes smaller.

# %%
leads = torch.from_numpy(ecgs.signals[:, [0, 1, 6, 7, 10], :250]).flatten(1)
labels = torch.from_numpy(ecgs.labels).float()


def train_network(seed):
    """Train a network with one hidden layer of 256 units on all records."""
    torch.manual_seed(seed)
    network = MLP(5, len(CLASSES), samples=250, width=256, depth=1, norm="none", dropout=0.0)
    optimizer = adamw(network, lr=1e-3, weight_decay=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        network_loss(network).backward()
        optimizer.step()
    return network


def network_loss(network):
    """Return the loss of a network on all records."""
    return binary_cross_entropy(network(leads.view(-1, 5, 250)), labels).mean()


def layers_of(network):
    """Return weight and bias of each layer."""
    return [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (network.layer1.linear, network.head)
    ]


first, second = train_network(0), train_network(1)
names = ("layer1.linear.weight", "layer1.linear.bias", "head.weight", "head.bias")
orders = match_units(layers_of(first), layers_of(second))
ordered = [value for layer in permute_units(layers_of(second), orders) for value in layer]
reordered = {name: torch.from_numpy(value).float() for name, value in zip(names, ordered, strict=True)}

shares = np.linspace(0, 1, 21)
before = interpolation(lambda: network_loss(first), first, second.state_dict(), shares)
after = interpolation(lambda: network_loss(first), first, reordered, shares)
same_function = abs(before[0] - after[0])
hill = {name: float(line.max() - max(line[0], line[-1])) for name, line in (("before", before), ("after", after))}
print(f"another order of the units changes the loss by {same_function:.1e}")
print(f"height of the hill: {hill['before']:.3f} before, {hill['after']:.3f} after")

# %%
with use_style():
    figure = new_figure(8, 3.8)
    axes = figure.add_subplot()
    axes.plot(shares, before, color=VERMILLION, label="original order of the units")
    axes.plot(shares, after, color=BLUE, label="matching order")
    axes.set_xticks([0, 0.5, 1], ["second network", "half way", "first network"])
    axes.set(ylabel="loss", title="The loss between two trained networks")
    axes.legend(fontsize=10, loc="upper left")
figure

# %% [markdown]
# `einthoven train experiment=convexity` and `einthoven train experiment=matching` show both with whole runs.
#
# ## The learning rate: how long is a step?
#
# Near an optimum, the loss is a bowl. Along a direction with the curvature λ, a step of gradient descent multiplies
# the distance from the optimum by 1 − ηλ:
#
# - η below 1/λ: the distance shrinks, slowly if η is small;
# - η between 1/λ and 2/λ: it shrinks, and changes its sign at every step;
# - η above 2/λ: it grows.
#
# So the largest curvature, the sharpness, decides how large the learning rate may be, and the smallest curvature
# decides how long it then takes.

# %%
best = make_model(optimum[None])
at_optimum = next(best.parameters())
lam = sharpness(Hessian(objective(best), [at_optimum]), torch.Generator().manual_seed(0), tolerance=1e-9)
H = torch.autograd.functional.hessian(
    lambda w: binary_cross_entropy(features @ w.T, normal).mean() + strength / 2 * (w**2).sum(), at_optimum.detach()
).reshape(2, 2)
curvatures, directions = np.linalg.eigh(H.numpy())
lam_error = abs(lam - curvatures[-1])
print(f"sharpness {lam:.3f}, the eigenvalue of the whole Hessian differs by {lam_error:.1e}; 2/λ = {2 / lam:.3f}")

rates = {"0.2/λ": 0.2 / lam, "1/λ": 1 / lam, "1.9/λ": 1.9 / lam, "2.1/λ": 2.1 / lam}
distances, factor_errors = {}, []
for name, rate in rates.items():
    path = walk(gradient_descent(rate), (optimum + 1e-3 * directions[:, -1])[None], 30)
    distances[name] = (path - optimum) @ directions[:, -1]
    factor_errors.append(abs(distances[name][1] / distances[name][0] - (1 - rate * lam)))
factor_error = max(factor_errors)
print(f"the factor of the first step differs from 1 − ηλ by {factor_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    for (name, values), color in zip(distances.items(), (GREEN, INK, BLUE, VERMILLION), strict=True):
        left.plot(1000 * values[:16], "o-", color=color, markersize=4, label=f"η = {name}")
        right.semilogy(np.maximum(np.abs(1000 * values), 1e-5), "o-", color=color, markersize=3)
    left.axhline(0, color=FAINT, zorder=0)
    left.set(xlabel="step", ylabel="distance (1/1000)", title="Distance from the optimum")
    left.legend()
    right.set(xlabel="step", title="Its size, on a logarithmic scale")
figure

# %% [markdown]
# `einthoven train experiment=edge_of_stability` shows what happens in a network: gradient descent goes where the
# sharpness is 2/η, and stays there.
#
# ## Batches: how many records decide?
#
# *Gradient descent* uses all records for a step: the direction is exact, and costs the most. *Stochastic gradient
# descent* uses one record: cheap, and noisy. A *mini-batch* lies between. The mean of many such steps is the exact
# direction; the noise falls as 1/√B (notebook 3).

# %%
paths = {}
for name, batch in (("all records", None), ("32 records", 32), ("1 record", 1)):
    paths[name] = walk(gradient_descent(0.15), [[1.2, 0.7]], 120, batch=batch)
half = {name: float(np.linalg.norm(np.diff(path[60:], axis=0), axis=1).mean()) for name, path in paths.items()}
print("mean length of a step in the second half:", {name: round(value, 4) for name, value in half.items()})

# %%
with use_style():
    figure = new_figure(12, 3.8)
    for axes, (name, path), color in zip(
        figure.subplots(1, 3, sharey=True), paths.items(), (INK, BLUE, VERMILLION), strict=True
    ):
        draw_landscape(axes, path, color)
        axes.plot(*optimum, "*", color=GREEN, markersize=14, zorder=5)
        axes.set_title(f"{name} a step")
    figure.axes[0].set_ylabel("weight of the height")
figure

# %% [markdown]
# ## Momentum and Adam
#
# The bowl is steep in one direction and flat in the other. The steep one limits the learning rate, so the walk along
# the flat one is slow. Two ideas help.
#
# *Momentum* keeps a velocity: v ← βv + g, w ← w − ηv. Steps that agree add up, steps that change their sign cancel.
#
# *Adam* gives each weight its own rate. m is the running mean of the gradients, u that of their squares, both
# corrected for their start at zero: w ← w − η m / (√u + ε).


# %%
def gradient_at(w):
    """Return the gradient of the objective at two weights."""
    model = make_model(w)
    objective(model).backward()
    return model.weight.grad.numpy()


def momentum_by_hand(w, steps, *, lr, beta):
    """Return the weights after some steps with momentum."""
    v = np.zeros((1, 2))
    for _ in range(steps):
        v = beta * v + gradient_at(w)
        w = w - lr * v
    return w


def adam_by_hand(w, steps, *, lr, betas, eps=1e-8):
    """Return the weights after some steps of Adam."""
    m, u = np.zeros((1, 2)), np.zeros((1, 2))
    for step in range(1, steps + 1):
        g = gradient_at(w)
        m = betas[0] * m + (1 - betas[0]) * g
        u = betas[1] * u + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** step)) / (np.sqrt(u / (1 - betas[1] ** step)) + eps)
    return w


start = np.array([[1.2, 0.7]])
races = {
    "gradient descent": gradient_descent(0.15),
    "momentum 0.9": lambda model: sgd(model, lr=0.15, momentum=0.9, nesterov=False, weight_decay=0.0),
    "Adam": lambda model: adam(model, lr=0.15, betas=(0.9, 0.99), weight_decay=0.0),
}
tracks = {name: walk(optimizer_of, start, 100) for name, optimizer_of in races.items()}
momentum_error = float(np.abs(momentum_by_hand(start, 20, lr=0.15, beta=0.9) - tracks["momentum 0.9"][20]).max())
adam_error = float(np.abs(adam_by_hand(start, 20, lr=0.15, betas=(0.9, 0.99)) - tracks["Adam"][20]).max())
print(
    f"after 20 steps, the formulas and the package differ by {momentum_error:.1e} (momentum), {adam_error:.1e} (Adam)"
)

# %%
with use_style():
    figure = new_figure(12, 4.2)
    left, right = figure.subplots(1, 2)
    lowest = float(objective(best).detach())
    for (name, path), color in zip(tracks.items(), (INK, BLUE, VERMILLION), strict=True):
        draw_landscape(left, path, color, label=name)
        with torch.no_grad():
            excess = [float(objective(make_model(w[None]))) - lowest for w in path]
        right.semilogy(np.maximum(excess, 1e-9), color=color, label=name)
    left.plot(*optimum, "*", color=GREEN, markersize=14, zorder=5)
    left.set(ylabel="weight of the height", title="100 steps")
    right.set(xlabel="step", ylabel="loss above the optimum", title="How fast?")
    right.legend()
figure

# %% [markdown]
# `einthoven train experiment=optimizer_race` compares ten optimizers of the package on a network.
#
# ## Schedules: long steps first, short steps later
#
# With a noisy gradient and a constant learning rate, the walk never comes to rest, even if it starts at the optimum.
# A *schedule* multiplies the learning rate by a factor that depends on the step. The cosine falls from 1 to 0: ½ (1 +
# cos(π · progress)). A *warm-up* at the beginning lets the running means of the optimizer settle.

# %%
names = {"cosine": cosine, "one_cycle": one_cycle, "warmup_stable_decay": warmup_stable_decay}
steps = 200
schedules_figure({name: [schedule(step, steps) for step in range(steps)] for name, schedule in names.items()})

# %%
by_formula = [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
cosine_error = max(abs(cosine(step, steps, warmup=0.0) - by_formula[step]) for step in range(steps))
print(f"the cosine and its formula differ by {cosine_error:.1e}")
ends = {}
for name, schedule in (("constant", None), ("cosine", cosine)):
    paths = [
        walk(gradient_descent(0.15), optimum[None], 300, batch=4, schedule=schedule, seed=seed) for seed in range(20)
    ]
    ends[name] = np.linalg.norm(np.array(paths) - optimum, axis=2).mean(axis=0)
print("distance from the optimum at the end:", {name: round(float(values[-1]), 3) for name, values in ends.items()})

# %%
with use_style():
    figure = new_figure(8, 3.6)
    axes = figure.add_subplot()
    for (name, values), color in zip(ends.items(), (VERMILLION, BLUE), strict=True):
        axes.plot(values, color=color, label=f"{name} learning rate")
    axes.set(
        xlabel="step, with four records",
        ylabel="distance",
        title="Distance from the optimum, mean of 20 walks from there",
    )
    axes.legend()
figure

# %% [markdown]
# ## All together: a training
#
# The loop of every training has five lines: take a batch, compute the loss, compute the gradient, take a step, change
# the learning rate. Here it trains a small version of the default network (convolutions, then attention) on three
# quarters of the records.

# %%
torch.manual_seed(0)
x = torch.from_numpy(ecgs.signals)
is_held_out = torch.arange(len(x)) % 4 == 3
network = ConvAttention(12, len(CLASSES), channels=(16, 32, 32), head_dropout=0.2)
optimizer = adamw(network, lr=4e-3, weight_decay=0.05)
epochs, size = 12, 32
rows = torch.arange(len(x))[~is_held_out]
total = epochs * (len(rows) // size)
losses, held_out, step = [], [], 0
for _ in range(epochs):
    network.train()
    for batch in torch.randperm(len(rows))[: len(rows) // size * size].split(size):
        loss = binary_cross_entropy(network(x[rows[batch]]), labels[rows[batch]]).mean()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * cosine(step, total)
        optimizer.step()
        losses.append(float(loss.detach()))
        step += 1
    with torch.no_grad():
        logits = network.eval()(x[is_held_out])
    held_out.append((step, float(binary_cross_entropy(logits, labels[is_held_out]).mean())))

answers, truth = logits.sigmoid().numpy(), labels[is_held_out].numpy()
auroc = macro_auroc(truth, answers)
auroc_error = abs(auroc - roc_auc_score(truth, answers, average="macro"))
print(f"{len(losses)} steps; macro AUROC of {len(truth)} records that were not trained on: {auroc:.2f}")
print(f"scikit-learn's value differs by {auroc_error:.1e}")

# %%
with use_style():
    figure = new_figure(9, 3.8)
    axes = figure.add_subplot()
    axes.plot(losses, color=BLUE, linewidth=1, label="batch of the step")
    axes.plot(*zip(*held_out, strict=True), "o-", color=VERMILLION, label="records that are not trained on")
    axes.axhline(math.log(2), color=FAINT, linestyle="--", label="log 2: every answer is ½")
    axes.set(xlabel="step", ylabel="loss", title="A training")
    axes.legend(fontsize=10)
figure

# %% [markdown]
# `einthoven train` does the same with more records, and measures what this notebook shows (notebook 6).
#
# Next: [5. Information](05_information.py), where cross-entropy comes from.
