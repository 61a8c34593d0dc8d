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
# # One batch, from paper to a smaller loss
#
# A training run does the same small thing thousands of times: it takes a batch of records, asks the model
# about them, measures how wrong the answer is, and moves every weight a little. This notebook does it once,
# slowly, and looks at what lies between the steps:
#
# record → tensor → principal components of the leads → augmentation → forward pass → loss → gradients →
# optimizer step → training → the page where a run shows all of it.
#
# Every function used here is the package's own, so what you see is what `einthoven train` computes. The
# records are generated; no measured ECG and no person is behind them. It takes under a minute on one core.

# %%
# %matplotlib inline
import tempfile
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from einthoven.augment.amplitude import AmplitudeScale
from einthoven.augment.masks import LeadDropout, TimeMask
from einthoven.augment.mix import Mixup
from einthoven.augment.noise import BaselineWander, Noise
from einthoven.augment.time import TimeShift
from einthoven.build import build
from einthoven.contracts import Position
from einthoven.data import read_record
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.splits import split_rows
from einthoven.data.store.batches import evaluation_batches, mix, training_batches
from einthoven.data.store.splits import DeviceSplit
from einthoven.data.synthetic import write_synthetic
from einthoven.diagnostics.gradients import gradient_norms
from einthoven.diagnostics.information import kl_drift
from einthoven.diagnostics.stages import stages
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.functional.information import bernoulli_cross_entropy, bernoulli_entropy, bernoulli_kl
from einthoven.functional.leads import LEADS
from einthoven.functional.moments import lead_moments
from einthoven.functional.pca import PCA
from einthoven.losses.classification import binary_cross_entropy
from einthoven.models.attention import SelfAttention
from einthoven.models.frontend import ROUNDING_MV, Classifier
from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.figures import loss_figure, pca_scree_figure, schedule_figure
from einthoven.report.style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILLION, new_figure, use_style
from einthoven.schema import Diagnostics, read_group
from einthoven.terminal.conf_folders import conf_folder
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.evaluate import evaluate
from einthoven.training.loop import fit
from einthoven.training.precision import choose_autocast, choose_device
from einthoven.training.step import train_step

# %% [markdown]
# The parts of a run are chosen by a configuration. This is the one of `einthoven train` itself, so the model,
# the augmentation, the optimizer and the schedule below are the defaults, whatever they are today.

# %%
with initialize_config_dir(str(conf_folder()), version_base="1.3"):
    config = compose("train", overrides=["model=conv_attention", "trainer.device=cpu", "diagnostics.gradients=1"])

seed = 0
device = choose_device(config.trainer.device)
_, autocast = choose_autocast("fp32", device)

# %% [markdown]
# ## 1. Records on disk
#
# Two hundred ten-second records, written in the layout of PTB-XL: one WFDB file pair per record, a table that
# says which statements hold for each, and a table that says what the statements are. From here on nothing
# knows that they are generated.

# %%
workplace = tempfile.TemporaryDirectory()
root = write_synthetic(Path(workplace.name) / "corpus", records=200, seed=seed)
sorted(path.name for path in root.iterdir())

# %% [markdown]
# A record is read into millivolts, its twelve leads in one order, whatever their order in the file.

# %%
corpus = PTBXL(root, fs=100, cache=Path(workplace.name) / "cache")
store = corpus.open()
row = next(i for i, codes in enumerate(store.table["scp_codes"]) if "LBBB" in codes or "LVH" in codes)
record = read_record(root / store.table["filename_lr"][row])
print(record.signal.shape, record.signal.dtype, f"{record.fs:g} Hz", record.leads)
print(store.table["report"][row])

# %% [markdown]
# On paper, a second is 25 mm wide and a millivolt 10 mm high: this is the picture a cardiologist reads, and
# the one that every record of a run is shown as.

# %%
ecg_paper_figure(record.signal, record.fs, title=f"record {record.source}", subtitle=store.table["report"][row], dpi=90)

# %% [markdown]
# ## 2. A tensor
#
# The store keeps every sample as a whole number of microvolts in 16 bits: half the memory of 32-bit floats,
# and exact, because electrocardiographs count in steps of a few microvolts themselves. Labels come from the
# table; folds 1 to 8 are trained on, 9 is watched, and no patient is in two of them.

# %%
labels = corpus.labels(store.table, "superdiagnostic")
rows = split_rows(labels, {"train": [1, 2, 3, 4, 5, 6, 7, 8], "val": [9], "test": [10]})
position = {ecg_id: at for at, ecg_id in enumerate(store.table["ecg_id"])}
stored = np.array([position[ecg_id] for ecg_id in labels.ecg_ids])
train, val = (
    DeviceSplit.load(store.signals, stored[rows[name]], labels.matrix[rows[name]], device) for name in ("train", "val")
)
print(f"store: {store.signals.shape} {store.signals.dtype}, {store.signals.nbytes / 1e6:.1f} MB")
print(f"train: {len(train)} records, val: {len(val)}; classes: {' '.join(labels.classes)}")

# %% [markdown]
# A batch is 32 of them as one tensor: batch × leads × time, in millivolts. The labels are a second tensor,
# batch × classes, with a 1 for each class that holds; a record may have several, or one.

# %%
batch = next(training_batches(train, size=config.trainer.batch_size, window=train.samples, seed=seed, epoch=0))
print("x", tuple(batch.x.shape), batch.x.dtype, f"{batch.x.min():.2f} ... {batch.x.max():.2f} mV")
print("y", tuple(batch.y.shape), batch.y.dtype)
print(batch.y[:4].int().tolist())

# %% [markdown]
# The six limb leads are differences of three electrodes, so they are tied together: Einthoven's law says
# III = II − I. It holds in every sample of the batch, to the last microvolt.

# %%
i, ii, iii = (batch.x[:, LEADS.index(lead)] for lead in ("I", "II", "III"))
law_error_mv = float((iii - (ii - i)).abs().max())
print(f"largest |III − (II − I)|: {1000 * law_error_mv:.4f} µV")

# %% [markdown]
# ## 3. Principal components: how many leads are there really?
#
# Each sample of time is a point in twelve dimensions, one per lead. The covariance matrix C (12 × 12) says
# which leads move together. Its eigenvectors are the directions along which the points spread, each
# eigenvalue the variance along its own:
#
# $$C v = \lambda v$$
#
# C only stretches an eigenvector, it does not turn it. Here is the identity, in numbers.

# %%
moments = lead_moments([train.signals.numpy()], scale=1e-3)  # µV -> mV
pca = PCA().fit_covariance(moments.mean, moments.covariance)
v, eigenvalue = pca.components_[0], pca.explained_variance_[0]
print("C v  ", np.round(moments.covariance @ v, 5))
print("λ v  ", np.round(eigenvalue * v, 5))
identity_error = float(
    np.abs(moments.covariance @ pca.components_.T - pca.components_.T * pca.explained_variance_).max()
)
print(f"largest difference over all 12 eigenvectors: {identity_error:.1e} mV²")

# %% [markdown]
# Nine electrodes measure eight voltages against each other; the other four leads are computed from those. So
# eight eigenvalues carry the heart (and the noise on the electrodes), and four hold nothing but the rounding
# to whole microvolts. The rank is not an opinion here: count the eigenvalues above the rounding.

# %%
rank = int((pca.explained_variance_ > ROUNDING_MV**2).sum())
print("standard deviation along each component, µV:", np.round(1000 * np.sqrt(pca.explained_variance_), 2))
print("rank:", rank)

# %%
pca_scree_figure(pca.explained_variance_ratio_, pca.components_[:rank], LEADS)

# %% [markdown]
# On the right, a row is an eigenvector: how each component is mixed from the leads. The first ones are broad
# views of the whole heart; the last ones are small differences between neighbouring electrodes. Small does
# not mean useless, though: an infarct that one chest electrode sees can live there. That is why the default
# keeps all eight, and drops only what is certainly nothing.
#
# Twelve leads, squeezed into eight numbers per sample and stretched back, return as they were:

# %%
eight = PCA(rank).fit_covariance(moments.mean, moments.covariance)
back = eight.inverse_transform(eight.transform(record.signal.T)).T
print(f"largest difference after 12 → 8 → 12: {1000 * np.abs(back - record.signal).max():.1f} µV")

# %% [markdown]
# In the model this projection is its first layer, the `Frontend`: a convolution of width one whose weights
# are fitted instead of trained. It belongs to the model, so everything outside sees twelve leads in mV.

# %%
frontend = build(config.pca)(moments)
with torch.no_grad():
    projected = frontend(batch.x)
print(frontend, tuple(batch.x.shape), "→", tuple(projected.shape))

# %%
with use_style():
    figure = new_figure(11, 6)
    seconds = np.arange(400) / record.fs
    for axes, signal, names, title in zip(
        figure.subplots(1, 2, sharex=True),
        (batch.x[0, :, :400], projected[0, :, :400]),
        (LEADS, [f"PC {k + 1}" for k in range(projected.shape[1])]),
        ("Twelve leads (mV)", "What the network sees: their components"),
        strict=True,
    ):
        step = float(signal.abs().amax())
        for k, trace in enumerate(signal):
            axes.plot(seconds, trace - step * k, color=BLUE, linewidth=0.9)
        axes.set_yticks([-step * k for k in range(len(names))], names)
        axes.grid(visible=False)
        axes.set(xlabel="s", title=title)
figure

# %% [markdown]
# ## 4. Augmentation
#
# A record of the training set is seen once per epoch. Varied each time in a way that a cardiologist would
# call the same ECG, it cannot be learned by heart. All variations are made on the whole batch at once, and
# all their randomness comes from one generator, so a run can be repeated.
#
# Below are some of those that the package has (`einthoven list augment` names them all), for each the record
# and lead of this batch that it changed most. Which of them a run uses, and how often, its configuration
# says.

# %%
augment = build(config.augment)
generator = torch.Generator(device).manual_seed(mix(seed, 0, 0))
shown = {}
gallery = (AmplitudeScale(), TimeShift(), Noise(), BaselineWander(), LeadDropout(), TimeMask(), Mixup())
for transform in gallery:
    changed, _ = transform(batch.x, batch.y, generator)
    difference = (changed - batch.x).abs().mean(dim=2)
    which, lead = divmod(int(difference.argmax()), difference.shape[1])
    shown[f"{type(transform).__name__}: lead {LEADS[lead]}"] = (batch.x[which, lead], changed[which, lead])
print("in the default set:", *augment)

# %%
with use_style():
    figure = new_figure(11, 1.55 * len(shown) + 0.4)
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, (title, (before, after)) in zip(panels, shown.items(), strict=True):
        axes.plot(np.arange(len(before)) / record.fs, before, color=FAINT, linewidth=1.6, label="before")
        axes.plot(np.arange(len(after)) / record.fs, after, color=BLUE, linewidth=0.9, label="after")
        axes.set_title(title, fontsize=11)
        axes.set_ylabel("mV")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    panels[-1].set_xlabel("s")
figure

# %% [markdown]
# The labels go through the same call. Mixup blends two records *and* their labels, so that a label may become
# 0.7 of one class and 0.3 of another: a soft label. We keep some for the loss below.

# %%
_, soft = Mixup(alpha=1.0)(batch.x, batch.y, generator)
print("hard", batch.y[:3].tolist())
print("soft", [[round(value, 2) for value in row] for row in soft[:3].tolist()])

# %% [markdown]
# ## 5. Forward pass
#
# The frontend and a network with random weights make the model: millivolts in, one number per class out. A
# network may read a long record in windows; what happens inside is easiest to see on one of them, so from
# here on the batch is cut to what the network reads at a time.

# %%
torch.manual_seed(seed)
network = build(config.model)(in_channels=frontend.out_channels, num_classes=len(labels.classes))
model = Classifier(frontend, network).to(device).eval()
length = getattr(network, "window", None) or train.samples
batch = replace(batch, x=batch.x[..., :length])
print(f"{length} samples; {sum(p.numel() for p in network.parameters()):,} weights")

# %% [markdown]
# The network is a chain of stages, its direct children. Each maps a tensor to the next; a hook on each stage
# writes down what comes out.

# %%
shapes: dict[str, tuple[int, ...]] = {"mV": tuple(batch.x.shape)}
hooks = [
    stage.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)}))
    for name, stage in (("frontend", frontend), *network.named_children())
]
with torch.no_grad():
    logits = model(batch.x)
for hook in hooks:
    hook.remove()
for name, shape in shapes.items():
    print(f"{name:<12}{shape}")

# %% [markdown]
# ### A convolution is a sliding dot product
#
# Take a short piece of signal, the pattern. Lay it over the signal at every position, multiply what lies on
# top of each other, and add. Where the signal looks like the pattern, the sum is large. With one QRS complex
# as the pattern, the dot product finds all beats:

# %%
lead = torch.from_numpy(record.signal[LEADS.index("II")])
lead = lead - lead.mean()
peak = int(lead[100:-100].abs().argmax()) + 100
pattern = lead[peak - 6 : peak + 7]
by_hand = torch.stack([pattern @ lead[t : t + len(pattern)] for t in range(len(lead) - len(pattern) + 1)])
by_torch = nn.functional.conv1d(lead[None, None], pattern[None, None])[0, 0]
sliding_error = float((by_hand - by_torch).abs().max())
print(f"largest difference between the loop and torch.nn.functional.conv1d: {sliding_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 4.2)
    above, below = figure.subplots(2, 1, sharex=True)
    t = np.arange(len(lead)) / record.fs
    above.plot(t, lead, color=BLUE, linewidth=1)
    above.plot(t[peak - 6 : peak + 7], pattern, color=VERMILLION, linewidth=3)
    above.set(ylabel="mV", title="Lead II, and the thick piece that is slid along it")
    below.plot(t[6:-6], by_hand, color=VERMILLION, linewidth=1)
    below.set(xlabel="s", ylabel="mV²", title="Dot product at every position")
figure

# %% [markdown]
# The network's first convolution does just this, with patterns that span all components at once and that
# training finds. One number of its output, by hand: the dot product of a filter with the window under it.

# %%
convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
kernel, stride, padding = convolution.kernel_size[1], convolution.stride[1], convolution.padding[1]
with torch.no_grad():
    projected = frontend(batch.x)
    output = convolution(projected[:1, :, None])  # (batch, channels, 1, time): an image of height one
    first = 50 * stride - padding
    window = projected[0, :, first : first + kernel]
    one_number = float((convolution.weight[0, :, 0] * window).sum())
convolution_error = abs(one_number - float(output[0, 0, 0, 50]))
print(f"by hand {one_number:.6f}, by the layer {float(output[0, 0, 0, 50]):.6f}")

# %% [markdown]
# ### Attention is a table of dot products
#
# After the convolutions, time is a short row of tokens. Attention compares every token with every other:
# the dot product of a query and a key, divided by √d, through a softmax. A row of that table is a
# distribution over time, and the token becomes the mean of the values weighted by it.

# %%
attention = next(module for module in network.modules() if isinstance(module, SelfAttention))


@torch.no_grad()
def attention_table(x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the attention weights (B, heads, N, N) of signals, and the largest error of their use by hand."""
    seen = {}
    hook = attention.register_forward_hook(lambda _, inputs, out: seen.update(tokens=inputs[0], out=out))
    model(x)
    hook.remove()
    batch_size, length, dim = seen["tokens"].shape
    qkv = attention.qkv(seen["tokens"]).view(batch_size, length, 3, attention.heads, dim // attention.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-1, -2) / (dim // attention.heads) ** 0.5).softmax(dim=-1)
    out = attention.out((weights @ value).transpose(1, 2).reshape(batch_size, length, dim))
    return weights, float((out - seen["out"]).abs().max())


untrained_table, attention_error = attention_table(batch.x[:1])
print("attention weights", tuple(untrained_table.shape), f"rows sum to {untrained_table.sum(-1).mean():.6f}")
print(f"softmax(QKᵀ/√d) V by hand and by the layer differ by {attention_error:.1e}")

# %% [markdown]
# ## 6. Loss
#
# The network's outputs are logits, one per class; a sigmoid makes each a probability. The loss is the
# negative logarithm of the probability that the model gave to what is true. A model that knows nothing says
# ½ and pays log 2 ≈ 0.693 per class. One with random weights does somewhat worse: it is sure of things at
# random, and being sure of the wrong thing is what costs most.

# %%
task = build(config.task)
with torch.no_grad():
    loss, logits = task.loss(model, batch)
p = task.activation(logits)
given_to_truth = torch.where(batch.y == 1, p, 1 - p)
print(f"loss {float(loss):.4f}; −mean log p(truth) {float(-given_to_truth.log().mean()):.4f}; log 2 = {np.log(2):.4f}")

# %% [markdown]
# That is the cross-entropy between the labels y and the predictions p, and it falls into two parts:
#
# $$\underbrace{-\sum y \log p}_{\text{cross-entropy}} = \underbrace{-\sum y \log y}_{\text{entropy of the labels}} +
# \underbrace{\sum y \log \frac{y}{p}}_{\mathrm{KL}(y \,\|\, p)}$$
#
# A hard label has no entropy: all of the loss is KL, and 0 can be reached. Soft labels keep an entropy that
# no model can remove; it is the floor of the training loss.

# %%
information_error = 0.0
q = p.double()
for name, y in (("hard labels", batch.y.double()), ("soft labels", soft.double())):
    cross = float(bernoulli_cross_entropy(y, q).mean())
    entropy = float(bernoulli_entropy(y).mean())
    # The divergence as its definition has it, 0 log 0 = 0; `bernoulli_kl` is the one that runs use.
    kl = float((torch.xlogy(y, y / q) + torch.xlogy(1 - y, (1 - y) / (1 - q))).mean())
    information_error = max(information_error, abs(cross - entropy - kl), abs(kl - float(bernoulli_kl(y, q).mean())))
    print(f"{name}: cross-entropy {cross:.6f} = entropy {entropy:.6f} + KL {kl:.6f}")

# %% [markdown]
# ## 7. Gradients
#
# How would the loss change if one weight moved a little? That number, for every weight, is the gradient.
# Backpropagation is the chain rule, applied from the loss backwards. Its first link can be done by hand: for
# the last layer, z = W h + b, the derivative of the loss by the logits is (p − y), and by W it is (p − y)ᵀ h,
# averaged over records and classes.

# %%
exact = deepcopy(model).double().eval()  # float64, no dropout: the loss is a plain function of the weights
x, y = batch.x.double(), batch.y.double()
last = [module for module in exact.modules() if isinstance(module, nn.Linear)][-1]
hidden = {}
hook = last.register_forward_hook(lambda _, inputs, out: hidden.update(h=inputs[0].detach(), z=out.detach()))
binary_cross_entropy(exact(x), y).mean().backward()
hook.remove()
chain = (hidden["z"].sigmoid() - y).T @ hidden["h"] / y.numel()
chain_error = float((chain - last.weight.grad).abs().max())
print(f"(p − y)ᵀ h and what autograd found differ by {chain_error:.1e}")

# %% [markdown]
# The other end of the chain, dozens of links further: a weight of the first convolution. Move it by a tiny ε
# in both directions, and look at the loss.

# %%
weight = next(module for module in exact.modules() if isinstance(module, nn.Conv2d)).weight
at = int(weight.grad.abs().argmax())
epsilon = 1e-6
losses = []
with torch.no_grad():
    for shift in (+epsilon, -epsilon):
        weight.view(-1)[at] += shift
        losses.append(float(binary_cross_entropy(exact(x), y).mean()))
        weight.view(-1)[at] -= shift
measured, derived = (losses[0] - losses[1]) / (2 * epsilon), float(weight.grad.view(-1)[at])
gradient_error = abs(measured - derived) / abs(derived)
print(f"measured {measured:.10f}, by backpropagation {derived:.10f}")

# %% [markdown]
# Stage by stage, the length of the gradient tells where the loss reaches and where it fades. A run logs
# these as `watch/grad/norm/<stage>`, and the gradient of the first stage against that of the last, per weight, as
# `watch/grad/vanishing`: far below 1, and the first layers no longer learn.

# %%
norms = {name: float(value) for name, value in gradient_norms(stages(exact.network)).items()}
with use_style():
    figure = new_figure(8, 3)
    axes = figure.add_subplot()
    per_stage = {name.rpartition("/")[2]: value for name, value in norms.items() if name.startswith("watch/grad/norm/")}
    axes.barh(list(per_stage), list(per_stage.values()), color=BLUE)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="‖gradient‖₂", title=f"Gradient by stage; vanishing ratio {norms['watch/grad/vanishing']:.2f}")
figure

# %% [markdown]
# ## 8. One step
#
# The optimizer turns the gradient into a step, the schedule says how long it is. With the first learning
# rate of a whole run the step is cautious, and the loss of the same batch goes down.

# %%
optimizer_of, schedule = build(config.optimizer), build(config.schedule)
epochs, steps_per_epoch = 10, len(train) // config.trainer.batch_size
total = epochs * steps_per_epoch


def batch_loss(network: nn.Module) -> float:
    """Return the loss of the batch."""
    with torch.no_grad():
        return float(task.loss(network, batch)[0])


stepped = deepcopy(model).eval()
optimizer = optimizer_of(stepped)
for group in optimizer.param_groups:
    group["lr"] = group["initial_lr"] * schedule(0, config.trainer.epochs * steps_per_epoch)
before = batch_loss(stepped)
start = [parameter.detach().clone() for parameter in stepped.parameters()]
task.loss(stepped, batch)[0].backward()
slope = [parameter.grad.clone() for parameter in stepped.parameters()]
optimizer.step()
after = batch_loss(stepped)
print(f"learning rate {optimizer.param_groups[0]['lr']:.1e}: loss {before:.5f} → {after:.5f}")

# %% [markdown]
# How far could it have gone? Follow the direction of that step further and look at the loss along it. At
# the start, the gradient predicts it: the dashed line is the loss that the slope promises. Further out the
# landscape curves, and one learning rate is too long: that is what a learning rate is about.

# %%
direction = [end.detach() - begin for end, begin in zip(stepped.parameters(), start, strict=True)]
promised = float(sum((g * d).sum() for g, d in zip(slope, direction, strict=True)))
lengths = np.concatenate([[0.0], np.geomspace(0.125, 64, 19)])
along = []
with torch.no_grad():
    for length in lengths:
        for parameter, begin, d in zip(stepped.parameters(), start, direction, strict=True):
            parameter.copy_(begin + length * d)
        along.append(batch_loss(stepped))
with use_style():
    figure = new_figure(8, 4)
    axes = figure.add_subplot()
    axes.plot(lengths, before + promised * lengths, color=FAINT, linestyle="--", label="promised by the gradient")
    axes.plot(lengths, along, color=BLUE, marker="o", markersize=4, label="the loss")
    axes.plot(1, after, "o", color=VERMILLION, markersize=9, label="the step taken")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, lengths[-1])
    axes.set_ylim(min(along) - 0.03, max(*along[:-6], before) + 0.06)
    axes.set(xlabel="length, in steps", ylabel="loss", title="The loss along the first step")
    figure.legend(loc="outside lower center", ncols=3)
figure

# %% [markdown]
# ## 9. Many steps
#
# Training repeats this step. `fit` is the training loop of the package. It calls `step` for each batch, and the
# callbacks between the steps. In a run, `log_metrics` writes to MLflow. Here it writes into a dictionary, under the
# same names.

# %%
history: dict[str, tuple[list[int], list[float]]] = {}
previous: list[np.ndarray] = []


def record_metrics(step: int, values: dict) -> None:
    """Keep metrics as the run page would."""
    for name, value in values.items():
        at, series = history.setdefault(name, ([], []))
        at.append(step)
        series.append(float(value))


def predict():
    """Return the labels and probabilities of the validation records."""
    return evaluate(
        model,
        task,
        evaluation_batches(val, size=32),
        window=val.samples,
        stride=val.samples,
        aggregate="mean",
        autocast=autocast,
    )


def validate() -> dict[str, float]:
    """Evaluate the validation records, and how far the predictions moved since the last time."""
    found = predict()
    metrics = {f"val/{name}": value for name, value in task.metrics(found.y, found.p, labels.classes).items()}
    if previous:
        metrics["watch/diag/kl_drift"] = kl_drift(previous[-1], found.p)
    previous.append(found.p)
    return metrics


optimizer = optimizer_of(model)
step = partial(
    train_step,
    model,
    task,
    optimizer=optimizer,
    augment=augment,
    autocast=autocast,
    clip_norm=config.trainer.clip_norm,
    penalty=build(config.penalty),
    diagnose=StepDiagnostics(
        model, task, optimizer, read_group(config.diagnostics, Diagnostics, "diagnostics"), autocast=autocast
    ),
)


def batches(epoch, first):
    """Return the batches of an epoch from a number on."""
    return training_batches(
        train, size=config.trainer.batch_size, window=train.samples, seed=seed, epoch=epoch, first=first
    )


finished = fit(
    model,
    optimizer,
    step,
    batches,
    schedule,
    Callbacks(record_metrics, validate, save=lambda position, best: None),
    TrainingChecks(model, Position()),
    position=Position(),
    epochs=epochs,
    steps_per_epoch=steps_per_epoch,
    step_seed=lambda epoch, step: mix(seed, epoch, step),
    monitor="val/macro_auroc",
    patience=None,
)
print(f"{finished.step} steps, best validation AUROC {finished.best:.3f} after epoch {finished.best_epoch}")

# %%
loss_figure(history)

# %% [markdown]
# A few dozen records per class and some seconds are not enough for a good classifier: compare how the loss
# falls on the records that it trains on, and on those that it does not. The learning rate rose and fell on
# the way, as a pure function of the step:

# %%
schedule_figure([schedule(step, total) for step in range(total)])

# %% [markdown]
# And these are the diagnostics, each a mean over the classes, as the loss is. The entropy says how unsure the
# predictions are (at most log 2: the dashed line). `watch/diag/kl_prior` asks whether the mean prediction of each class
# matches its frequency; both are running means over a hundred steps, so it trails behind in a run as short as
# this. `watch/diag/kl_drift` is how far the predictions moved from one evaluation to the next: where the learning
# rate has come down, nothing moves any more.

# %%
with use_style():
    figure = new_figure(11, 3.6)
    left, middle, right = figure.subplots(1, 3)
    for axes, names, title in (
        (left, [name for name in history if name.startswith("watch/grad/norm/")], "Gradient norms"),
        (middle, ["watch/diag/entropy"], "Entropy (nats)"),
        (right, ["watch/diag/kl_prior", "watch/diag/kl_drift"], "Divergences (nats)"),
    ):
        for name, color in zip(names, (BLUE, ORANGE, GREEN, VERMILLION, INK, FAINT), strict=False):
            axes.plot(*history[name], color=color, linewidth=1.4, label=name.removeprefix("watch/grad/norm/"))
        axes.set(xlabel="step", title=title)
        axes.legend(fontsize=9)
    left.set_yscale("log")
    right.set_yscale("log")
    middle.axhline(np.log(2), color=FAINT, linestyle="--")
figure

# %% [markdown]
# What did attention make of it? One row of the table is one token's view of the whole window; here the mean
# over all of them, untrained and trained, below the ECG that it looks at.

# %%
model.eval()
trained_table, _ = attention_table(batch.x[:1])
with use_style():
    figure = new_figure(11, 4.6)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1])
    axes.plot(np.arange(batch.x.shape[2]) / record.fs, batch.x[0, LEADS.index("II")], color=INK, linewidth=0.9)
    axes.set(ylabel="mV", title="Lead II of the first record of the batch")
    tokens = (np.arange(trained_table.shape[-1]) + 0.5) * batch.x.shape[2] / trained_table.shape[-1] / record.fs
    for table, color, name in ((untrained_table, FAINT, "untrained"), (trained_table, VERMILLION, "trained")):
        below.step(tokens, table[0].mean(dim=(0, 1)), where="mid", color=color, label=name)
    below.set(xlabel="s", ylabel="weight", title="Attention received, mean over heads and tokens")
    below.legend(loc="upper right")
figure

# %% [markdown]
# ## 10. The same, on the page of a run
#
# `make train` does what this notebook did, with ten times the records and for longer, and `make ui` shows it:
#
# | here | on the page of a run |
# |---|---|
# | the configuration | Parameters: every option, by its dotted name |
# | the store and its splits | Datasets: name, fingerprint, records and patients of each split |
# | the scree of section 3 | Artifacts, `figures/pca_scree.png` |
# | the loss of section 6, at every step | Model metrics, `train/loss`; after every epoch `val/loss` |
# | the gradients of section 7 | `watch/grad/norm` (unclipped), `watch/grad/norm/<stage>`, `watch/grad/vanishing` |
# | the schedule of section 8 | `watch/optim/lr`, and `figures/schedule.png` |
# | entropy and divergences | `watch/diag/entropy`, `watch/diag/kl_prior`, `watch/diag/kl_drift` |
# | the answer | `val/macro_auroc`, `val/auroc/<class>`, `test/…` with a 95 % interval |
# | the best and the worst predictions, on paper | `figures/ecg_best_1.png`, `figures/ecg_worst_1.png` … |
#
# The last of these, made here: of the records that the model has not been trained on, the one whose labels it
# is surest of after a few dozen steps. The title has the labels, the line below the predictions.

# %%
found = predict()
chosen = int((found.y * found.p).sum(axis=1).argmax())
ranked = np.argsort(-found.p[chosen])
signal = val.take(torch.tensor([chosen]), val.samples)[0]
truth = " ".join(name for name, label in zip(labels.classes, found.y[chosen], strict=True) if label)
ecg_paper_figure(
    signal,
    record.fs,
    title=f"validation record {labels.ecg_ids[rows['val'][chosen]]}: {truth}",
    subtitle="predicted: " + "  ".join(f"{labels.classes[k]} {found.p[chosen, k]:.2f}" for k in ranked),
    dpi=90,
)

# %%
workplace.cleanup()
