"""What a model card says of a run, gathered from the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import einthoven
from einthoven.report.model_card import Share, Subject, model_card
from einthoven.runs.attributes import attributes
from einthoven.runs.options import config_hash, logged_options, plain_options

if TYPE_CHECKING:
    from pandas import DataFrame

    from einthoven import schema
    from einthoven.runs.network_parts import NetworkParts

TOLD = ("pca.mode", "init._target_", "loss._target_", "optimizer._target_", "optimizer.lr", "schedule._target_")
"""Options of the training on the card, where a run has them; and of the trainer:"""
TRAINER = ("epochs", "batch_size", "precision", "select", "window", "aggregate", "sampler")


def card(
    run: NetworkParts, options: schema.EvaluationOptions, found: Mapping[str, Any], meta: Mapping[str, Any]
) -> str:
    """The model card of a run and what its evaluation found, as ``evaluation.json`` holds it."""
    return model_card(subject(run, options, found, meta), found)


def subject(
    run: NetworkParts, options: schema.EvaluationOptions, found: Mapping[str, Any], meta: Mapping[str, Any]
) -> Subject:
    """What the card is of.

    Parameters
    ----------
    run : NetworkParts
    options : EvaluationOptions
        Which splits are fitted and reported on.
    found : mapping
        What ``evaluation.json`` holds.
    meta : mapping
        Notes of the run's checkpoint.
    """
    container = plain_options(run.config)
    shown = logged_options(container)
    told = {name: shown[name] for name in TOLD if name in shown}
    told |= {f"trainer.{name}": shown[f"trainer.{name}"] for name in TRAINER}
    splits = {"train": "train", "fit": options.fit, "report": options.report}
    tables = {name: run.data.table(split) for name, split in splits.items()}
    return Subject(
        name=run.settings.tracking.run_name,
        network=type(run.model.network).__name__,
        parameters=sum(p.numel() for p in run.model.parameters()),
        leads=tuple(run.data.store.leads),
        fs=run.data.store.fs,
        seconds=run.window / run.data.store.fs,
        task=run.task.labels,
        single_label=run.task.single_label,
        sources=tuple(sorted({str(source) for table in tables.values() for source in table["source"]})),
        shares=tuple(_share(run, name, split, tables[name]) for name, split in splits.items()),
        options={name.removesuffix("._target_"): _last(value) for name, value in told.items()} | {"seed": meta["seed"]},
        provenance={
            "made by": f"einthoven {einthoven.__version__} on {datetime.now(UTC):%Y-%m-%d}",
            "trained with": f"einthoven {meta['einthoven']}",
            "MLflow run": meta["run_id"],
            "data fingerprint": run.data.store.fingerprint[:12],
            "configuration hash": config_hash(container),
            "code hash": _code(found["code"]),
        },
    )


def _share(run: NetworkParts, name: str, split: str, table: DataFrame) -> Share:
    labels = np.zeros((0, len(run.data.labels.classes))) if not len(table) else run.data.record_labels(split)
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
        positives=dict(zip(run.data.labels.classes, labels.sum(axis=0).astype(int).tolist(), strict=True)),
    )


def _code(hashes: Mapping[str, str | None]) -> str:
    trained, evaluated = hashes["trained"], hashes["evaluated"]
    return str(evaluated) if trained == evaluated else f"{trained or 'not known'} (trained), {evaluated} (evaluated)"


def _last(value: object) -> object:
    """Of a dotted name, the last part."""
    return value.rsplit(".", 1)[-1] if isinstance(value, str) else value
