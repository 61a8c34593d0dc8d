"""Gather what the model card says about a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import einthoven
from einthoven.report.model_card import Share, Subject, model_card
from einthoven.runs.config.options import config_hash, logged_options, plain_options
from einthoven.runs.data.attributes import attributes
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.schema import EvaluationOptions

if TYPE_CHECKING:
    from pandas import DataFrame

LISTED = ("pca.mode", "init._target_", "loss._target_", "optimizer._target_", "optimizer.lr", "schedule._target_")
"""Options of the training that the card lists, if a run has them."""

LISTED_TRAINER = ("epochs", "batch_size", "precision", "select", "window", "aggregate", "sampler")
"""Options of the trainer that the card lists."""


def model_card_of(
    run: NetworkParts, options: EvaluationOptions, results: Mapping[str, Any], notes: Mapping[str, Any]
) -> str:
    """Return the model card of a run, from the content of ``evaluation.json`` and the notes of its checkpoint."""
    container = plain_options(run.config)
    logged = logged_options(container)
    listed = {}
    for name in (*LISTED, *(f"trainer.{name}" for name in LISTED_TRAINER)):
        if name in logged:
            # Of a dotted name, the card shows the last part.
            value = logged[name]
            listed[name.removesuffix("._target_")] = value.rsplit(".", 1)[-1] if isinstance(value, str) else value

    splits = {"train": "train", "fit": options.fit, "report": options.report}
    tables = {name: run.data.table(split) for name, split in splits.items()}
    sources = {str(source) for table in tables.values() for source in table["source"]}
    subject = Subject(
        name=run.settings.tracking.run_name,
        network=type(run.model.network).__name__,
        parameters=sum(p.numel() for p in run.model.parameters()),
        leads=tuple(run.data.store.leads),
        fs=run.data.store.fs,
        seconds=run.window / run.data.store.fs,
        task=run.task.labels,
        single_label=run.task.single_label,
        sources=tuple(sorted(sources)),
        shares=tuple(_share(run, name, split, tables[name]) for name, split in splits.items()),
        options=listed | {"seed": notes["seed"]},
        provenance={
            "made by": f"einthoven {einthoven.__version__} on {datetime.now(UTC):%Y-%m-%d}",
            "trained with": f"einthoven {notes['einthoven']}",
            "started from": "" if run.base is None else f"{run.base.logged_source}, {run.base.description}",
            "MLflow run": notes["run_id"],
            "data fingerprint": run.data.store.fingerprint[:12],
            "configuration hash": config_hash(container),
            "code hash": _describe_code(results["code"]),
        },
    )
    return model_card(subject, results)


def _share(run: NetworkParts, name: str, split: str, table: DataFrame) -> Share:
    """Count the records, patients, ages, sexes and labels of a split."""
    classes = run.data.labels.classes
    labels = run.data.record_labels(split) if len(table) else np.zeros((0, len(classes)))
    ages = table["age"].to_numpy(np.float64) if "age" in table else np.array([])
    ages = ages[np.isfinite(ages)]
    sexes = [sex for sex in attributes(table).get("sex", []) if sex in ("male", "female")]
    return Share(
        split=name,
        folds=", ".join(map(str, asdict(run.settings.folds)[split])),
        records=len(table),
        patients=len(set(run.data.patients(split).tolist())),
        age=tuple(np.percentile(ages, (25, 50, 75)).tolist()) if ages.size else None,
        female=sexes.count("female") / len(sexes) if sexes else None,
        positives=dict(zip(classes, labels.sum(axis=0).astype(int).tolist(), strict=True)),
    )


def _describe_code(hashes: Mapping[str, str | None]) -> str:
    trained = hashes["trained"]
    evaluated = hashes["evaluated"]
    if trained == evaluated:
        return str(evaluated)
    return f"{trained or 'not known'} (trained), {evaluated} (evaluated)"
