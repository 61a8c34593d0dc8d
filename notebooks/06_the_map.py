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
# # 6. The map: which mathematics is where in a run
#
# Notebooks 1 to 5 compute one idea at a time. A training does all of them at once, and writes down what happens. This
# notebook opens a finished run, finds each idea in it, and checks the numbers of the run against the formulas.
#
# It takes the run in `$EINTHOVEN_RUN`, such as `outputs/2026-01-31/12-00-00-synthetic-conv_attention`. Without one,
# it trains a small network on generated ECGs first. That takes less than a minute.

# %%
# %matplotlib inline
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image, Markdown
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from einthoven.build import build
from einthoven.report.style import BLUE, FAINT, INK, VERMILLION, new_figure, use_style

workplace = tempfile.TemporaryDirectory()


def train_run() -> Path:
    """Train a small network, and return the folder of the run."""
    folder = Path(workplace.name) / "outputs" / "small"
    options = ["data.records=400", "trainer.epochs=8", "model.channels=[16,32,32]"]
    measured = ["diagnostics.predictions=1", "diagnostics.gradients=2"]
    places = [f"hydra.run.dir={folder}", "trainer.device=cpu", "tracking.offline=true"]
    command = [sys.executable, "-m", "einthoven", "train", *options, *measured, *places]
    print("einthoven train", *options, *measured)
    subprocess.run(command, cwd=workplace.name, check=True, capture_output=True)
    return folder


folder = Path(os.environ["EINTHOVEN_RUN"]) if "EINTHOVEN_RUN" in os.environ else train_run()

# The folder of a run has its results as plain files.
table = pd.read_csv(folder / "history.csv")
series = {name: (part["step"].to_numpy(), part["value"].to_numpy()) for name, part in table.groupby("metric")}
config = OmegaConf.load(folder / "config.yaml")
result = json.loads((folder / "metrics.json").read_text())
print(result["result"])
print(f"{len(series)} metrics, {len(list((folder / 'figures').glob('*.png')))} figures")

# %% [markdown]
# `series` has every metric of the run: its steps and its values. MLflow draws the same numbers as curves. Now the
# map. Each line is a part of the training, the mathematics behind it, and where the run shows it. A metric is there
# if the run has measured it.

# %%
MAP = (
    ("neuron, dense layer", "dot product, matrix product", 1, "watch/act/variance"),
    ("convolution", "sliding dot product", 1, "watch/act/variance"),
    ("self-attention", "dot products, softmax", 1, "figures/attention.png"),
    ("positions of tokens", "sine and cosine", 1, "figures/positions.png"),
    ("principal components of the leads", "eigenvectors of the covariance", 1, "watch/pca/explained"),
    ("backpropagation", "chain rule", 2, "watch/grad/norm"),
    ("vanishing gradients", "a product of many factors", 2, "watch/grad/vanishing"),
    ("curvature", "second derivatives", 2, "watch/diag/sharpness"),
    ("sigmoid output", "a Bernoulli distribution for each class", 3, "watch/diag/entropy"),
    ("cross-entropy", "negative log-likelihood", 3, "train/loss"),
    ("initial weights", "variance of a sum", 3, "watch/act/variance"),
    ("L2 penalty, weight decay", "Gaussian prior", 3, "train/penalty"),
    ("confidence interval", "variance of a mean", 3, "test/macro_auroc_low"),
    ("AdamW", "running means of g and g²", 4, "watch/update/ratio"),
    ("clipping", "norm of the gradient", 4, "watch/grad/clipped"),
    ("learning-rate schedule", "half a cosine", 4, "watch/optim/lr"),
    ("entropy of the labels", "the floor of the loss", 5, "watch/diag/entropy_labels"),
    ("KL of labels and predictions", "what a model can learn", 5, "watch/diag/kl_labels"),
    ("drift of the function", "KL(before ‖ now)", 5, "watch/diag/kl_drift"),
)


def is_there(place: str) -> bool:
    """Return whether the run has a metric (alone, or one for each stage) or a figure."""
    return (folder / place).exists() or any(name == place or name.startswith(f"{place}/") for name in series)


lines = ["| part | mathematics | notebook | in a run | in this one |", "|---|---|---|---|---|"]
lines += [
    f"| {part} | {idea} | {number} | `{place}` | {'yes' if is_there(place) else 'not measured'} |"
    for part, idea, number, place in MAP
]
found = [place for *_, place in MAP if is_there(place)]
print(f"{len(found)} of {len(MAP)} are in this run")
Markdown("\n".join(lines))

# %% [markdown]
# What is not measured can be switched on: `diagnostics=full` measures everything, `penalty=l2` adds the penalty.
# [docs/math.md](../docs/math.md) has the whole map, with the function behind each line.
#
# ## Linear algebra: the leads


# %%
def picture(name: str) -> Image:
    """Return a figure of the run."""
    return Image(folder / "figures" / f"{name}.png", width=900)


explained = series["watch/pca/explained"][1][-1]
print(f"the components that the network reads keep {explained:.4%} of the variance of the leads")
picture("pca_scree")

# %% [markdown]
# ## Calculus: the gradients
#
# `watch/grad/vanishing` is the root mean square of the gradient of the first stage, divided by that of the last one.
# The picture has the gradients of all stages, from the input (below) to the output (above).

# %%
stage_names = [name.rpartition("/")[2] for name in series if name.startswith("watch/grad/norm/")]
vanishing = series["watch/grad/vanishing"][1]
print("stages:", ", ".join(stage_names))
print(f"first stage against last stage: {np.median(vanishing):.2f} (median over the steps)")
picture("gradient_flow")

# %% [markdown]
# ## Optimization: the learning rate
#
# The learning rate of a step is the base rate times the schedule, and the schedule is a pure function of the step. So
# the whole curve can be computed from the configuration.

# %%
steps, rates = series["watch/optim/lr"]
schedule = build(config.schedule)
total = len(rates)
computed = np.array([config.optimizer.lr * schedule(int(step) - 1, total) for step in steps])
rate_error = float(np.abs(computed / rates - 1).max())
print(f"{total} steps; the logged learning rates differ from the formula by {rate_error:.1e} of their size")

# %% [markdown]
# ## Probability and information: the loss
#
# At each step, loss = entropy of the labels + KL. The labels of this run are hard, so their entropy is 0: all of the
# loss is KL, and could be removed. The training loss is above the validation loss, because dropout and augmentation
# make the training harder.
#
# The entropy of the *predictions* is something else: it says how unsure the network is, at most log 2. A network that
# has learned little is unsure. The drift says how far the predictions move from one epoch to the next. It goes to
# zero with the learning rate.

# %%
step, loss = series["train/loss"]
measured, floor = series["watch/diag/entropy_labels"]
kl = series["watch/diag/kl_labels"][1]
at_steps = loss[np.searchsorted(step, measured)]
loss_error = float(np.abs(at_steps - floor - kl).max())
print(f"loss and entropy + KL differ by {loss_error:.1e} at most")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    left.plot(step, loss, color=FAINT, linewidth=0.8, label="train/loss")
    left.plot(*series["val/loss"], "o-", color=VERMILLION, label="val/loss")
    left.axhline(np.log(2), color=INK, linestyle="--", linewidth=1, label="log 2")
    left.set(xlabel="step", ylabel="nats", title="Loss")
    left.legend(fontsize=10)
    right.plot(*series["watch/diag/entropy"], color=BLUE, linewidth=1, label="entropy of the predictions")
    right.plot(*series["watch/diag/kl_drift"], "o-", color=INK, label="KL: last epoch ‖ now")
    right.set(xlabel="step", ylabel="nats", title="How unsure, and how far it moves")
    right.legend(fontsize=10)
figure

# %% [markdown]
# ## The answer, and how certain it is
#
# The predictions of the run are a table. From it, scikit-learn computes the AUROC of each class again. The interval
# of the macro AUROC comes from drawing the patients again and again (the bootstrap). It is wide, because the test set
# is small.

# %%
predictions = pd.read_csv(folder / "predictions" / "test.csv")
print(", ".join(predictions.columns[:8]))
logged = {name.rpartition("/")[2]: values[1][-1] for name, values in series.items() if name.startswith("test/auroc/")}
recomputed = {}
for name in logged:
    truth, answer = predictions[f"{name}_label"], predictions[f"{name}_probability"]
    recomputed[name] = roc_auc_score(truth, answer)
auroc_error = max(abs(recomputed[name] - logged[name]) for name in logged)
print({name: round(float(value), 3) for name, value in logged.items()}, f"scikit-learn differs by {auroc_error:.1e}")
low, high = (series[f"test/macro_auroc_{end}"][1][-1] for end in ("low", "high"))
print(f"macro AUROC {series['test/macro_auroc'][1][-1]:.3f}, 95 % interval {low:.3f} to {high:.3f}")

# %%
picture("roc_test")

# %% [markdown]
# ## Where to look
#
# `einthoven ui` opens the run in a browser. [docs/diagnostics.md](../docs/diagnostics.md) defines each metric. The
# experiments of [docs/experiments.md](../docs/experiments.md) change one part and draw what follows: each
# is one command.
#
# Next: [7. Your own ECG](07_your_own_ecg.py).

# %%
workplace.cleanup()
