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
# # 7. Your own ECG
#
# This notebook takes one file from reading to an explained answer, and then trains a network a little further on
# records with new labels. For a file of your own, set the environment variable `EINTHOVEN_ECG` to its path, and run
# the notebook.
#
# **Not for diagnosis.** This is software for research and teaching, and no medical device.

# %%
# %matplotlib inline
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ecgs import CLASSES, FS, ptbxl_folder, read_ecgs
from sklearn.metrics import roc_auc_score
from torch import nn

from einthoven.data import read_record
from einthoven.data.doctor import CODES, examine_record
from einthoven.errors import UserError
from einthoven.evaluation.metrics import macro_auroc
from einthoven.functional.leads import LEADS
from einthoven.losses.classification import binary_cross_entropy
from einthoven.optim.optimizers import adamw
from einthoven.optim.schedules import cosine
from einthoven.predict import find_bundle, load_bundle
from einthoven.predict.bundle import read_bundle
from einthoven.predict.delineator import load_delineator
from einthoven.predict.log_odds import LogOdds
from einthoven.predict.measuring import measure_records
from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.explanation import explanation_figure
from einthoven.report.measurement_text import measurement_line, measurement_lines
from einthoven.report.style import BLUE, FAINT, VERMILLION, new_figure, use_style

# %% [markdown]
# ## The file
#
# Without a file of your own, the notebook takes a record of the PhysioNet challenge 2021 if this computer has one, or
# writes a generated record into a CSV file.

# %%
workplace = tempfile.TemporaryDirectory()


def find_file() -> tuple[Path, dict]:
    """Return the file, and what it does not say about itself."""
    if "EINTHOVEN_ECG" in os.environ:
        return Path(os.environ["EINTHOVEN_ECG"]), {}
    challenge = Path(os.environ.get("EINTHOVEN_REAL_DATA", "nowhere")) / "cinc2021"
    records = sorted(challenge.glob("JS*.hea"))
    if records:
        return records[0], {}
    ecg = read_ecgs(3).signals[2]
    file = Path(workplace.name) / "mine.csv"
    rows = [",".join(LEADS)] + [",".join(f"{value:.3f}" for value in column) for column in ecg.T]
    file.write_text("\n".join(rows) + "\n")
    return file, {"fs": FS, "units": "mV"}


file, unstated = find_file()
record = read_record(file, **unstated)
seconds = record.signal.shape[1] / record.fs
print(f"{file.name}: {len(record.leads)} leads, {seconds:g} s at {record.fs:g} Hz")
for note in (*record.notes, *record.comments):
    print("  ", note)

# %% [markdown]
# A CSV file says nothing about its unit and sampling frequency. They are never guessed: without `fs=` and `units=`
# the file is refused, with a sentence that says what is missing.
#
# ## The doctor: is the record in order?
#
# The doctor looks for flat and disconnected leads, exchanged electrodes, a wrong unit and noise. To see that it
# works, here are also two spoilt versions of the record: one with the arm electrodes exchanged, one in microvolts
# that is called millivolts.

# %%
signal = record.signal.copy()
exchanged = signal.copy()
exchanged[LEADS.index("I")] = -signal[LEADS.index("I")]
for one, other in (("II", "III"), ("aVR", "aVL")):
    exchanged[LEADS.index(one)], exchanged[LEADS.index(other)] = signal[LEADS.index(other)], signal[LEADS.index(one)]
versions = {
    "as it is": record,
    "arm electrodes exchanged": replace(record, signal=exchanged),
    "µV called mV": replace(record, signal=1000 * signal),
}
findings = {name: examine_record(version) for name, version in versions.items()}
for name, found in findings.items():
    print(name)
    for finding in found:
        print(f"   {finding.severity}: {CODES[finding.code]}: {finding.evidence}")
    if not found:
        print("   nothing found")

# %% [markdown]
# ## Measurements
#
# A small network finds P, QRS and T in each beat. From their edges follow the heart rate and the intervals. The
# number after ± is the spread from beat to beat.

# %%
measurements = measure_records(load_delineator(), [record])[0]
print("\n".join(measurement_lines(measurements)))
rr = 60 / measurements.values["heart_rate"].value if measurements.values["heart_rate"].value else np.nan
qt = measurements.values["qt"].value
by_hand = qt / rr ** (1 / 3) if qt else np.nan
print(f"QTc by Fridericia's formula, QT / RR^(1/3): {by_hand:.0f} ms")

# %%
ecg_paper_figure(record.signal, record.fs, title=file.stem, subtitle=measurement_line(measurements), dpi=80)

# %% [markdown]
# ## An answer
#
# The package contains a network and gradient boosting that were trained on 1,713 real ECGs of PTB-XL. The answer has
# a calibrated probability for each class. The interval says how well this probability is known.

# %%
predictor = load_bundle()
meanings = {name: text for group in predictor.groups.values() for name, text in group.items()}
prediction = predictor.predict_prepared([predictor.prepare(record)])
p, interval = prediction.probabilities[0], prediction.intervals[0]
refusal = prediction.refused[0]
print(refusal or "answered")
for number in np.argsort(-p[: len(CLASSES)]):
    name = predictor.classes[number]
    print(f"{p[number]:.2f} ({interval[number, 0]:.2f} to {interval[number, 1]:.2f})  {name}: {meanings[name]}")
for caution in prediction.cautions[0]:
    print("note:", caution)

# %% [markdown]
# A record that cannot be right is not answered. The two spoilt versions cost one sentence each:

# %%
refused = {}
for name in ("arm electrodes exchanged", "µV called mV"):
    try:
        predictor.predict([versions[name]])
    except UserError as error:
        refused[name] = str(error)
        print(f"{name}: {error}")

# %% [markdown]
# ## What the answer rests on
#
# *Integrated gradients* give each sample a share in the log-odds of the answer. The shares add up to the difference
# between the record and a flat line, f(x) − f(0). Blue is for the class, orange against it.

# %%
explanation = predictor.explain(record) if refusal is None else None
if explanation is not None:
    log_odds = LogOdds.from_bundle(predictor.bundles[0]).eval()
    x = torch.from_numpy(explanation.signal).float()[None]
    number = predictor.classes.index(explanation.label)
    with torch.no_grad():
        difference = float((log_odds(x) - log_odds(torch.zeros_like(x)))[0, number])
    total = float(explanation.relevance.sum())
    print(f"sum of the shares {total:.3f}, f(x) − f(0) = {difference:.3f}")
    largest = sorted(explanation.by_lead.items(), key=lambda pair: -pair[1])[:4]
    print("leads with the largest shares:", ", ".join(f"{lead} {share:.0%}" for lead, share in largest))

# %%
figure = None
if explanation is not None:
    figure = explanation_figure(
        explanation.signal,
        explanation.fs,
        explanation.relevance,
        explanation.label,
        title=f"{file.stem}: {explanation.label}",
        subtitle=f"probability {explanation.probability:.2f}",
        dpi=80,
    )
figure

# %% [markdown]
# `einthoven explain FILE` draws this page, and measures how far the picture can be trusted.
#
# ## Fine-tuning, in small
#
# You have a few records with labels of your own. A network that has already learned what waves are needs far fewer of
# them than a fresh one. Here 48 records are trained on, and 150 others judge. Both networks have the same
# architecture, steps and learning-rate schedule. One starts from a network of the package that was trained on other
# records, one from random weights. (For real ECGs, it is the network of generated ECGs. Some numbers of the generator
# are fitted to signals of PTB-XL, without their labels.)

# %%
ecgs = read_ecgs(198)
print(ecgs.source)
base = read_bundle(find_bundle("ptbxl" if ptbxl_folder() is None else "synthetic"))
print("base:", base.provenance["trained_on"])
x, y = torch.from_numpy(ecgs.signals), torch.from_numpy(ecgs.labels).float()
is_train = torch.arange(len(x)) % 33 < 8


def tune(model, lr, steps=60, size=16):
    """Train a classifier on the few records, and return the macro AUROC of the others after some steps."""
    optimizer = adamw(model, lr=lr, weight_decay=0.05)
    rows = torch.arange(len(x))[is_train]
    curve = []
    for step in range(steps):
        torch.manual_seed(step)
        batch = rows[torch.randperm(len(rows))[:size]]
        model.train()
        loss = binary_cross_entropy(model(x[batch]), y[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * cosine(step, steps)
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                answers = model.eval()(x[~is_train]).sigmoid().numpy()
            curve.append((step + 1, macro_auroc(y[~is_train].numpy(), answers)))
    return curve, answers


def fresh_copy():
    """Return the classifier of the base with a new last layer."""
    model = read_bundle(find_bundle("ptbxl" if ptbxl_folder() is None else "synthetic")).model
    last = model.network.head[-1]
    torch.manual_seed(0)
    model.network.head[-1] = nn.Linear(last.in_features, len(CLASSES))
    model.readout = None
    return model


def with_random_weights(model):
    """Draw all weights of a classifier anew."""
    torch.manual_seed(1)
    for module in model.network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


tuned, answers = tune(fresh_copy(), lr=1e-3)
scratch, _ = tune(with_random_weights(fresh_copy()), lr=4e-3)
truth = y[~is_train].numpy()
auroc_error = abs(tuned[-1][1] - roc_auc_score(truth, answers, average="macro"))
print(f"macro AUROC of {len(truth)} other records: fine-tuned {tuned[-1][1]:.3f}, from scratch {scratch[-1][1]:.3f}")
print(f"scikit-learn's value differs by {auroc_error:.1e}")

# %%
with use_style():
    figure = new_figure(8, 3.8)
    axes = figure.add_subplot()
    for (name, curve), color in zip(
        {"fine-tuned": tuned, "from scratch": scratch}.items(), (BLUE, VERMILLION), strict=True
    ):
        axes.plot(*zip(*curve, strict=True), "o-", color=color, label=name)
    axes.axhline(0.5, color=FAINT, linestyle="--", label="guessing")
    axes.set(xlabel="step, with 16 of 48 records", ylabel="macro AUROC", title="150 records that are not trained on")
    axes.legend(loc="center right")
figure

# %% [markdown]
# With files, this is one command. `labels.csv` has a row for each file: `path,labels,patient`. The run keeps patients
# apart, calibrates the probabilities, and leaves a model that `einthoven predict` takes:
#
# ```bash
# einthoven train init_from=ptbxl data=folder data.root=/data/mine data.patient_column=patient task=columns
# einthoven predict outputs/… new.hea
# ```

# %%
workplace.cleanup()
