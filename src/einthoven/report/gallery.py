"""The gallery of a run: a page with all its pictures, each with one line that says what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from einthoven.report.note_picture import NAME as NOTE_PICTURE
from einthoven.report.page import page, picture, tag

PICTURES = {  # name of a picture -> description, in the order of a page
    "loss": "Loss of training and validation over the steps, and the monitored metric",
    "roc_test": "ROC curve of each class on the test records",
    "roc_val": "ROC curve of each class on the validation records",
    "agreement_test": "Predicted against true values of the test records",
    "agreement_val": "Predicted against true values of the validation records",
    "delineation_test": "True and predicted waves of a test record, the one with the median error",
    "delineation_val": "True and predicted waves of a validation record, the one with the median error",
    "reliability": "Predicted probability against observed share, before and after calibration",
    "decision_curves": "Net benefit of decisions by the predictions",
    "risk_coverage": "Share of wrong decisions over the share of records that are answered",
    "explanations": "The surest right answers: the signal, and in colour what the network reads in it",
    "ecg_best_1": "The best predicted record on ECG paper",
    "ecg_worst_1": "The worst predicted record on ECG paper",
    "ecg_best_2": "The second best predicted record on ECG paper",
    "ecg_worst_2": "The second worst predicted record on ECG paper",
    "attention": "Attention of the network in the record that it predicts best",
    "positions": "Similarity of the positions that the attention knows",
    "reconstructions": "Records, and what the network makes of their hidden or coded signal",
    "generated": "Signals that the network has made up",
    "heart_vectors": "Path of the electrical heart vector, true and predicted",
    "schedule": "Learning rate over the steps, relative to the base learning rate",
    "gradient_flow": "Gradient norm of each stage over the steps",
    "updates": "Size of the steps of each stage relative to its weights",
    "information": "Entropy of predictions and labels, and divergences between them, over the steps",
    "weights": "Distribution of the weights over the epochs",
    "gradients": "Distribution of the gradient of the last step of each epoch, after clipping",
    "activations": "Distribution of the outputs of all stages over the epochs",
    "probabilities": "Distribution of the predicted probabilities of the validation records over the epochs",
    "labels": "Classes that occur together in the training records",
    "pca_scree": "Variance of the principal components, and loadings of the leads",
    "landscape": "Loss around the final weights",
    "trajectory": "Path of the weights over the loss around them",
    "importance": "Importance of the features",
    "information_gain": "Information that each feature gives about the classes in the trees",
}


_JPEG = b"\xff\xd8"


def describe_picture(name: str) -> str:
    """Return what a picture shows, in one line.

    Parameters
    ----------
    name : str
        Name of its file without suffix. It may end with the name of a model or of a label set, as in
        ``reliability_mean``.
    """
    known = _known_name(name)
    if not known:
        return name.replace("_", " ").capitalize()
    suffix = name.removeprefix(known).replace("_", " ").strip()
    return f"{PICTURES[known]} ({suffix})" if suffix else PICTURES[known]


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of pictures in the order of a page. Unknown pictures come last.

    The small picture of the note is left out: it shows the same as a larger one.
    """
    positions = {name: position for position, name in enumerate(PICTURES)}
    pictures = [name for name in names if name != NOTE_PICTURE]
    return sorted(pictures, key=lambda name: (positions.get(_known_name(name), len(positions)), name))


def _known_name(name: str) -> str:
    """Return the longest name of `PICTURES` that a name begins with; empty if there is none."""
    known = [other for other in PICTURES if name == other or name.startswith(f"{other}_")]
    return max(known, key=len, default="")


def gallery(title: str, result: str, pictures: Mapping[str, bytes]) -> str:
    """Return the page, which needs no other file.

    Parameters
    ----------
    title : str
        Name of the run.
    result : str
        A sentence with its result; it can be empty.
    pictures : mapping of str to bytes
        Name -> PNG or JPEG.
    """
    parts: list[str] = [tag("h1", title)]
    if result:
        parts.append(tag("p", result))
    for name in in_order(pictures):
        description = describe_picture(name)
        kind = "jpeg" if pictures[name].startswith(_JPEG) else "png"
        parts.append(picture(pictures[name], kind, description, f"{description}. File: figures/{name}.png"))
    return page(title, *parts)
