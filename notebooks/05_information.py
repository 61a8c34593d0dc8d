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
# # 5. Information: where cross-entropy comes from
#
# Information theory measures surprise. Four quantities follow from one definition:
#
# | quantity | what it is | where a training has it |
# |---|---|---|
# | surprise | −log p of what happened | the loss of one label |
# | entropy | mean surprise of a distribution | how unsure predictions are |
# | cross-entropy | mean surprise of someone with another belief | the loss |
# | KL divergence | the difference of the two | distillation, autoencoders, drift |
#
# With the natural logarithm, the unit is the *nat*. One nat is 1.44 bits.

# %%
# %matplotlib inline
import heapq
import zlib

import numpy as np
import torch
from ecgs import CLASSES, FS, read_ecgs
from scipy import integrate, stats
from sklearn.tree import DecisionTreeClassifier

from einthoven.augment.mix import Mixup
from einthoven.diagnostics.information import label_information
from einthoven.functional.features import ecg_features, feature_names
from einthoven.functional.information import (
    bernoulli_entropy,
    categorical_cross_entropy,
    categorical_entropy,
    categorical_kl,
    gaussian_kl,
    kl_of_logits,
)
from einthoven.functional.leads import LEADS
from einthoven.losses.classification import binary_cross_entropy, cross_entropy
from einthoven.models.information_gain import gain_of_features, splits_of_tree
from einthoven.models.mlp import MLP
from einthoven.optim.optimizers import adamw
from einthoven.report.figures import smooth
from einthoven.report.style import BLUE, FAINT, GREEN, INK, VERMILLION, new_figure, use_style

ecgs = read_ecgs(300)
print(ecgs.source)

# %% [markdown]
# ## Surprise and entropy
#
# Something that happens with the probability p has the surprise −log p. What is certain does not surprise. What is
# rare surprises a lot. If two independent things happen, their probabilities are multiplied, and their surprises are
# added: that is why it is a logarithm.
#
# *Entropy* is the mean surprise of a distribution:
#
# > H(p) = −Σₖ pₖ log pₖ

# %%
p = torch.linspace(0.001, 0.999, 499, dtype=torch.float64)
entropy_error = float(np.abs(bernoulli_entropy(p).numpy() - stats.bernoulli(p.numpy()).entropy()).max())
with use_style():
    figure = new_figure(11, 3.4)
    left, right = figure.subplots(1, 2)
    left.plot(p, -p.log(), color=VERMILLION)
    left.set(xlabel="probability p of what happened", ylabel="nats", title="Surprise: −log p", ylim=(0, 5))
    right.plot(p, bernoulli_entropy(p), color=BLUE)
    right.axhline(np.log(2), color=FAINT, linestyle="--")
    right.set(xlabel="probability of yes", ylabel="nats", title="Entropy of yes or no: at most log 2 = 0.69")
print(f"the package and scipy differ by {entropy_error:.1e}")
figure

# %% [markdown]
# ### Entropy is the number of questions
#
# Somebody draws a record, and you have to find its class with yes-or-no questions. Ask for frequent classes first.
# The best strategy (Huffman's tree) needs at least H bits on average, and less than one question more.

# %%
single = ecgs.labels[ecgs.labels.sum(axis=1) == 1]
shares = torch.from_numpy(single.mean(axis=0))
present = [(float(share), [name]) for name, share in zip(CLASSES, shares, strict=True) if share > 0]


def count_questions(groups):
    """Return the questions that each class needs: join the two rarest groups again and again."""
    questions = {name: 0 for _, names in groups for name in names}
    heap = [(share, number, names) for number, (share, names) in enumerate(groups)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, _, some), (second, number, others) = heapq.heappop(heap), heapq.heappop(heap)
        for name in some + others:
            questions[name] += 1
        heapq.heappush(heap, (first + second, number + 100, some + others))
    return questions


questions = count_questions(present)
mean_questions = sum(share * questions[names[0]] for share, names in present)
class_bits = float(categorical_entropy(shares)) / np.log(2)
print("shares:", {name: round(float(share), 2) for name, share in zip(CLASSES, shares, strict=True)})
print("questions:", questions)
print(f"entropy {class_bits:.2f} bits; the best questions need {mean_questions:.2f} on average")

# %% [markdown]
# ### Entropy is the size of a compressed ECG
#
# A sample is stored with 16 bits. How many does it need? The values of lead II have the entropy of their histogram.
# The *differences* from sample to sample are mostly small, so they surprise less. That is why the format SCP-ECG
# stores differences. A general program for compression (zlib) confirms it: it also makes the differences smaller.

# %%
counts = np.rint(1000 * ecgs.signals[:100, LEADS.index("II")] / 5).astype(np.int16)  # in steps of 5 µV
versions = {"values": counts, "differences": np.diff(counts, axis=1)}
bits, zlib_bits = {}, {}
for name, values in versions.items():
    frequencies = np.unique(values, return_counts=True)[1] / values.size
    bits[name] = float(categorical_entropy(torch.from_numpy(frequencies))) / np.log(2)
    zlib_bits[name] = 8 * len(zlib.compress(values.tobytes(), 9)) / values.size
    print(f"{name:<12} entropy {bits[name]:.2f} bits a sample; zlib {zlib_bits[name]:.2f}")
bits_error = abs(bits["values"] - stats.entropy(np.unique(counts, return_counts=True)[1], base=2))

# %%
with use_style():
    figure = new_figure(9, 3.4)
    axes = figure.add_subplot()
    bins = np.arange(-80, 81, 2)
    for (name, values), color in zip(versions.items(), (FAINT, BLUE), strict=True):
        label = f"{name}: {bits[name]:.1f} bits"
        axes.hist(values.ravel(), bins=bins, density=True, color=color, alpha=0.7, label=label)
    axes.set(xlabel="value in steps of 5 µV", ylabel="share", title="Narrow means little surprise")
    axes.legend()
figure

# %% [markdown]
# ## Cross-entropy and KL divergence
#
# Now the classes have the shares p, and somebody believes q. The mean surprise is the *cross-entropy*. It has two
# parts:
#
# > −Σ p log q = −Σ p log p + Σ p log(p/q)
# >
# > cross-entropy = entropy (cannot be avoided) + KL(p ‖ q) (wrong belief)
#
# The loss of the package on the records is this cross-entropy. The best belief is p itself. A classifier with a loss
# above the entropy of the shares is worse than always answering with the shares.

# %%
one_hot = torch.from_numpy(single)
beliefs = {
    "the shares": shares,
    "all alike": torch.full_like(shares, 1 / len(CLASSES)),
    "the shares, backwards": shares.flip(0),
}
parts, counted = {}, {}
for name, q in beliefs.items():
    parts[name] = (float(categorical_entropy(shares)), float(categorical_kl(shares, q)))
    counted[name] = float(cross_entropy(q.log().expand_as(one_hot), one_hot, output="softmax").mean())
    print(f"{name:<22} entropy {parts[name][0]:.3f} + KL {parts[name][1]:.3f}; loss of the records {counted[name]:.3f}")
parts_error = max(abs(sum(parts[name]) - counted[name]) for name in beliefs)
scipy_error = abs(parts["all alike"][1] - stats.entropy(shares, beliefs["all alike"]))
direct = float(categorical_cross_entropy(shares, beliefs["all alike"]))
print(f"sum and loss differ by {parts_error:.1e}; from scipy's KL {scipy_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 3.4)
    left, right = figure.subplots(1, 2)
    left.bar(CLASSES, shares, color=BLUE)
    left.set(title="Shares of the superclasses", ylabel="share")
    entropies, divergences = (np.array([parts[name][k] for name in parts]) for k in (0, 1))
    right.barh(list(parts), entropies, color=FAINT, label="entropy")
    right.barh(list(parts), divergences, left=entropies, color=VERMILLION, label="KL")
    right.invert_yaxis()
    right.set(xlabel="nats", title="Cross-entropy of a belief")
    right.legend(loc="upper right")
figure

# %% [markdown]
# ## In a training: entropy = cross-entropy − KL
#
# A hard label (0 or 1) has no entropy. Its loss is all KL, and a perfect model reaches 0. *Mixup* and *label
# smoothing* make labels soft. A soft label has an entropy, and no model can go below it: it is the floor of the loss.
# The figure shows the two parts over a short training with mixup. Their sum is the loss at every step.

# %%
x = torch.from_numpy(ecgs.signals[:, [0, 1, 6, 7, 8, 9, 10, 11], ::2]).contiguous()
y = torch.from_numpy(ecgs.labels).float()
torch.manual_seed(0)
network = MLP(8, len(CLASSES), samples=x.shape[2], width=64, depth=1, norm="batch", dropout=0.0)
optimizer = adamw(network, lr=1e-3, weight_decay=0.05)
mix, generator = Mixup(alpha=0.4), torch.Generator().manual_seed(0)
curves = {"loss": [], "entropy": [], "KL": []}
for _ in range(150):
    rows = torch.randint(len(x), (64,), generator=generator)
    mixed, soft = mix(x[rows], y[rows], generator)
    logits = network(mixed)
    loss = binary_cross_entropy(logits, soft).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    split = label_information(soft, logits.detach())
    curves["loss"].append(float(loss.detach()))
    curves["entropy"].append(float(split["watch/diag/entropy_labels"]))
    curves["KL"].append(float(split["watch/diag/kl_labels"]))
curves = {name: np.array(values) for name, values in curves.items()}
training_error = float(np.abs(curves["loss"] - curves["entropy"] - curves["KL"]).max())
print(f"loss and entropy + KL differ by {training_error:.1e} at most")

# %%
with use_style():
    figure = new_figure(9, 3.8)
    axes = figure.add_subplot()
    steps = np.arange(1, 151)
    floor, total = smooth(curves["entropy"], 9), smooth(curves["loss"], 9)
    axes.fill_between(steps, 0, floor, color=FAINT, alpha=0.7, label="entropy of the labels: the floor")
    axes.fill_between(steps, floor, total, color=VERMILLION, alpha=0.4, label="KL: what the model can learn")
    axes.plot(steps, total, color=INK, label="cross-entropy: the loss")
    axes.set(xlabel="step", ylabel="nats", ylim=(0, None), title="Two parts of the loss (mean of 9 steps)")
    axes.legend()
figure

# %% [markdown]
# `einthoven train experiment=information` draws this for whole runs, with hard, smoothed and mixed labels. Every run
# logs the two parts as `watch/diag/entropy_labels` and `watch/diag/kl_labels`.
#
# ## KL has a direction
#
# KL(p ‖ q) is not a distance: the order matters. Take the intervals between beats in records with fast and with slow
# hearts: a distribution with two hills. Describe it with one Gaussian q.
#
# - KL(p ‖ q) is large where p has something and q has nothing. The best q covers both hills.
# - KL(q ‖ p) is large where q has something and p has nothing. The best q stays on one hill.

# %%
axis = np.linspace(-1, 3, 801)
hills = 0.6 * stats.norm(0.55, 0.09).pdf(axis) + 0.4 * stats.norm(1.15, 0.14).pdf(axis)
means, deviations = np.linspace(0.3, 1.5, 49), np.geomspace(0.06, 0.6, 41)
covers, stays = np.empty((49, 41)), np.empty((49, 41))
for i, mean in enumerate(means):
    for j, deviation in enumerate(deviations):
        log_ratio = np.log(hills + 1e-300) - stats.norm(mean, deviation).logpdf(axis)
        covers[i, j] = integrate.trapezoid(hills * log_ratio, axis)
        stays[i, j] = integrate.trapezoid(-np.exp(stats.norm(mean, deviation).logpdf(axis)) * log_ratio, axis)
best = {}
for name, values in (("KL(p ‖ q)", covers), ("KL(q ‖ p)", stays)):
    i, j = np.unravel_index(values.argmin(), values.shape)
    best[name] = (means[i], deviations[j])
p_mean = integrate.trapezoid(axis * hills, axis)
print({name: f"mean {mean:.2f}, deviation {deviation:.2f}" for name, (mean, deviation) in best.items()})
print(f"mean of p: {p_mean:.2f} (the Gaussian that minimizes KL(p ‖ q) has the mean of p)")

# %%
with use_style():
    figure = new_figure(9, 3.6)
    axes = figure.add_subplot()
    axes.fill_between(axis, hills, color=FAINT, alpha=0.6, label="p")
    for (name, (mean, deviation)), color in zip(best.items(), (BLUE, VERMILLION), strict=True):
        axes.plot(axis, stats.norm(mean, deviation).pdf(axis), color=color, label=f"q with the smallest {name}")
    axes.set(xlabel="seconds between beats", ylabel="density", xlim=(0, 2), title="One Gaussian for two hills")
    axes.legend()
figure

# %% [markdown]
# Between two Gaussians, KL has a formula. A variational autoencoder (`task=vae`) uses it: it keeps its codes near a
# standard normal distribution.
#
# > KL(N(m, s²) ‖ N(0, 1)) = ½ (s² + m² − 1 − log s²)

# %%
m, log_s2 = torch.tensor(0.7, dtype=torch.float64), torch.tensor(np.log(0.3), dtype=torch.float64)
q = stats.norm(0.7, np.sqrt(0.3))
by_integral = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), -8, 8)[0]
gaussian_error = abs(float(gaussian_kl(m, log_s2)) - by_integral)
print(f"the formula gives {float(gaussian_kl(m, log_s2)):.6f}; the integral differs by {gaussian_error:.1e}")

# %% [markdown]
# *Distillation* (`task=distill`) trains a student with KL(teacher ‖ student). Its gradient with respect to the logits
# of the student is simply the difference of the two predictions.

# %%
teacher = torch.tensor([[2.0, -1.0, 0.3, 0.0, -2.0]], dtype=torch.float64)
student = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
kl_of_logits(teacher, student, True).sum().backward()
distillation_error = float((student.grad - (student.softmax(dim=1) - teacher.softmax(dim=1))).abs().max())
print(f"gradient of the KL and difference of the predictions differ by {distillation_error:.1e}")

# %% [markdown]
# ## Information gain: the questions of a tree
#
# A decision tree asks one question after the other: is this measurement above a threshold? It chooses the question
# whose answer leaves the smallest entropy of the labels. The difference is the *information gain*:
#
# > H(y) − (share of yes · H(y | yes) + share of no · H(y | no))
#
# The features are measurements of the ECG (`t_aVR_mv` is the height of the T wave in aVR, in mV). The label says
# whether the ECG is normal.

# %%
table = ecg_features(ecgs.signals.astype(np.float64), FS, LEADS).values
table = np.where(np.isfinite(table), table, np.nanmedian(table, axis=0))
columns = feature_names(LEADS)
normal = ecgs.labels[:, CLASSES.index("NORM")]


def entropy_of(labels):
    """Return the entropy of labels of 0 and 1."""
    return float(bernoulli_entropy(torch.tensor(labels.mean() if len(labels) else 0.0, dtype=torch.float64)))


def gains(values):
    """Return all thresholds between two values, and the information gain of each."""
    known = np.unique(values)
    thresholds = (known[1:] + known[:-1]) / 2
    gained = []
    for threshold in thresholds:
        above = values > threshold
        rest = above.mean() * entropy_of(normal[above]) + (~above).mean() * entropy_of(normal[~above])
        gained.append(entropy_of(normal) - rest)
    return thresholds, np.array(gained)


tree = DecisionTreeClassifier(criterion="entropy", max_depth=1, random_state=0).fit(table, normal)
question = int(tree.tree_.feature[0])
thresholds, gained = gains(table[:, question])
package_gain = float(gain_of_features(splits_of_tree(tree.tree_), table.shape[1])[question])
gain_error = abs(package_gain - gained.max())
threshold_error = abs(float(tree.tree_.threshold[0]) - thresholds[gained.argmax()])
print(f"the tree asks: is {columns[question]} above {tree.tree_.threshold[0]:.3g}?")
print(f"H(y) = {entropy_of(normal):.3f} nats; the answer tells {gained.max():.3f} of them")
print(f"package and formula differ by {gain_error:.1e}; the best threshold by {threshold_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2, sharex=True)
    low, high = np.quantile(table[:, question], [0.01, 0.99])
    bins = np.linspace(low, high, 30)
    for label, color, name in ((1, GREEN, "normal"), (0, VERMILLION, "not normal")):
        left.hist(table[normal == label, question], bins=bins, color=color, alpha=0.5, label=name)
    right.plot(thresholds, gained, color=BLUE)
    for axes in (left, right):
        axes.axvline(tree.tree_.threshold[0], color=INK, linestyle="--", linewidth=1)
        axes.set(xlabel=columns[question], xlim=(low, high))
    left.set(ylabel="records", title="The best question of all")
    left.legend()
    right.set(ylabel="nats", title="Information gain of each threshold")
figure

# %% [markdown]
# `model=decision_tree`, `model=forest` and `model=gradient_boosting` ask many such questions. The figure
# `information_gain` of their runs says which measurements told most.
#
# Next: [6. The map](06_the_map.py), which finds all of this in a run.
