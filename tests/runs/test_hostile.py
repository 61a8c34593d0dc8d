"""Files of a stranger in the folder of a run: no code runs, and each command ends with code 2 and one sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from einthoven import cli
from einthoven.files import BLANK, sealed_digest
from einthoven.predict.bundle import DESCRIPTION
from einthoven.predict.sealed_folder import WEIGHTS, seal_description
from einthoven.training import checkpoint

Train = Callable[..., None]
Change = Callable[[Path, Path], object]

SECONDS, MEGABYTES = 10.0, 600
LAST = f"checkpoints/{checkpoint.LAST}"
HUGE = 10 << 30


class Payload:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def folder(train: Train, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of a run, which was trained once."""
    trained = workplace / "hostile"
    if not trained.exists():
        train("model=logistic", "trainer.epochs=1", "tracking.artifacts=false", f"hydra.run.dir={trained}")
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    (copy / "checkpoints" / "best.safetensors").unlink()
    monkeypatch.chdir(workplace)
    return copy


# How a stranger writes a file.


def pickled(path: str) -> Change:
    """A pickle, as `torch.save` writes it."""

    def change(folder: Path, marker: Path) -> None:
        buffer = io.BytesIO()
        torch.save({"model": Payload(marker)}, buffer)
        (folder / path).write_bytes(buffer.getvalue())

    return change


def plain_pickle(path: str) -> Change:
    return lambda folder, marker: (folder / path).write_bytes(pickle.dumps(Payload(marker)))


def text(path: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder, marker: (folder / path).write_bytes(data)


def pipe(path: str) -> Change:
    def change(folder: Path, marker: Path) -> None:
        (folder / path).unlink()
        os.mkfifo(folder / path)

    return change


def link(path: str, target: str = "") -> Change:
    """A link to a file elsewhere: by default to a copy of what was there."""

    def change(folder: Path, marker: Path) -> None:
        elsewhere = folder.parent / "elsewhere"
        (folder / path).rename(elsewhere)
        (folder / path).symlink_to(target or elsewhere)

    return change


def sparse(path: str, start: bytes = b"") -> Change:
    """A file of 10 GB that takes no room on the disk."""

    def change(folder: Path, marker: Path) -> None:
        with (folder / path).open("wb") as file:
            file.write(start)
            file.truncate(HUGE)

    return change


def a_folder(path: str) -> Change:
    def change(folder: Path, marker: Path) -> None:
        (folder / path).unlink()
        (folder / path).mkdir()

    return change


def described(change: Callable[[Any], object]) -> Change:
    """A bundle whose description was changed by someone who knows the format."""

    def rewrite(folder: Path, marker: Path) -> None:
        bundle = folder / "bundle"
        description = json.loads((bundle / DESCRIPTION).read_text())
        change(description)
        (bundle / DESCRIPTION).write_bytes(seal_description(description, (bundle / WEIGHTS).read_bytes()))

    return rewrite


def weights(change: Callable[[Any], object]) -> Change:
    """A bundle whose weights were changed by someone who knows the format."""

    def rewrite(folder: Path, marker: Path) -> None:
        file = folder / "bundle" / WEIGHTS
        tensors = safetensors.torch.load_file(file)
        change(tensors)
        file.write_bytes(safetensors.torch.save(tensors))
        described(lambda description: None)(folder, marker)

    return rewrite


def saved(change: Callable[[Any, Any], object]) -> Change:
    """A checkpoint whose state or notes were changed by someone who knows the format."""

    def rewrite(folder: Path, marker: Path) -> None:
        state, meta = checkpoint.load(folder / LAST)
        change(state, meta)
        checkpoint.save(folder / LAST, state, meta)

    return rewrite


def with_network(model: dict[str, Any]) -> Change:
    """A run with other options of its network, by someone who changes them wherever they are stored."""

    def restate(notes: dict[str, Any]) -> None:
        others = {name: value for name, value in notes["config"].items() if not name.startswith("model.")}
        notes["config"] = others | {f"model.{name}": value for name, value in model.items()}

    def rewrite(folder: Path, marker: Path) -> None:
        shutil.rmtree(folder / "bundle")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"model": model}))
        for file in (folder / LAST, folder / "identity.safetensors"):
            state, notes = checkpoint.load(file)
            restate(notes)
            checkpoint.save(file, state, notes)

    return rewrite


def headed(header: str) -> Change:
    """A checkpoint with a header of the stranger's own and a valid hash."""

    def rewrite(folder: Path, marker: Path) -> None:
        metadata = {"einthoven.checkpoint": header, "einthoven.sha256": BLANK.decode()}
        data = safetensors.torch.save({"w": torch.ones(1)}, metadata=metadata)
        position = data.index(b'"einthoven.sha256":"') + 20
        digest = sealed_digest(io.BytesIO(data), position).encode()
        (folder / LAST).write_bytes(data[:position] + digest + data[position + len(BLANK) :])

    return rewrite


def safetensors_file(header: str | bytes) -> bytes:
    data = header.encode() if isinstance(header, str) else header
    return len(data).to_bytes(8, "little") + data


def options(description: Any) -> Any:
    return description["model"]["network"]["options"]


BUNDLE, WEIGHTS_FILE = f"bundle/{DESCRIPTION}", f"bundle/{WEIGHTS}"
TERABYTE = json.dumps({"model.w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}})

OF_BUNDLES: dict[str, Change] = {
    "pickled weights": pickled(WEIGHTS_FILE),
    "a pickle as weights": plain_pickle(WEIGHTS_FILE),
    "a pickle as description": plain_pickle(BUNDLE),
    "another function as network": described(lambda d: d["model"]["network"].update({"class": "os.mkdir"})),
    "torch.load as network": described(lambda d: d["model"]["network"].update({"class": "torch.load"})),
    "a function of a module": described(lambda d: d["model"]["frontend"].update({"class": "einthoven.cli.os.system"})),
    "nested JSON": text(BUNDLE, "[" * 1_000_000),
    "nested objects": text(BUNDLE, '{"a":' * 500_000),
    "JSON of one key twice": text(BUNDLE, '{"format": 2, "format": 1}'),
    "JSON with a long number": text(BUNDLE, '{"format": ' + "9" * 100_000 + "}"),
    "huge JSON": sparse(BUNDLE),
    "huge weights": sparse(WEIGHTS_FILE),
    "a header of exabytes": text(WEIGHTS_FILE, (1 << 62).to_bytes(8, "little") + b"{}"),
    "a tensor of terabytes": text(WEIGHTS_FILE, safetensors_file(TERABYTE)),
    "a nested header": text(WEIGHTS_FILE, safetensors_file("[" * 500_000)),
    "a width of a billion": described(lambda d: options(d).update(samples=10**9)),
    "classes without end": described(lambda d: options(d).update(num_classes=10**7)),
    "a million classes": described(lambda d: d.update(classes=[f"c{i}" for i in range(1_000_000)])),
    "a window of a billion": described(lambda d: d["reads"].update(window=10**9)),
    "a stride of 0": described(lambda d: d["reads"].update(stride=0)),
    "no frequency": described(lambda d: d["reads"].update(fs=1e-300)),
    "NaN weights": weights(lambda t: t["model.network.linear.weight"].fill_(np.nan)),
    "a tensor more": weights(lambda t: t.update(more=torch.ones(1))),
    "a terminal escape": described(lambda d: d.update(classes=["\x1b[2J\x1b]0;x\x07", *d["classes"][1:]])),
    "a pipe": pipe(WEIGHTS_FILE),
    "a device": link(WEIGHTS_FILE, "/dev/zero"),
    "a link to elsewhere": link(WEIGHTS_FILE),
    "a link to a file of the system": link(BUNDLE, "/etc/passwd"),
    "a link to itself": link(WEIGHTS_FILE, WEIGHTS),
    "a folder": a_folder(WEIGHTS_FILE),
}

OF_CHECKPOINTS: dict[str, Change] = {
    "a pickle of torch": pickled(LAST),
    "a plain pickle": plain_pickle(LAST),
    "huge": sparse(LAST),
    "huge with a header": sparse(LAST, safetensors_file('{"w":{"dtype":"U8","shape":[10],"data_offsets":[0,10]}}')),
    "a header of exabytes": text(LAST, (1 << 62).to_bytes(8, "little") + b"{}"),
    "a nested header": text(LAST, safetensors_file("[" * 500_000)),
    "nested state": headed('{"version": 2, "meta": {}, "structure": ' + '{"list": [' * 500 + "]}" * 500 + "}"),
    "a tensor that is not there": headed('{"version": 2, "meta": {}, "structure": {"tensor": "other"}}'),
    "a state of another kind": headed('{"version": 2, "meta": {}, "structure": {"eval": "1"}}'),
    "a later version": headed('{"version": 9, "meta": {}, "structure": null}'),
    "NaN weights": saved(lambda state, meta: [value.fill_(np.nan) for value in state["model"].values()]),
    "weights of another network": saved(lambda state, meta: state.update(model={"w": torch.ones(3)})),
    "epochs without end": saved(lambda state, meta: meta["position"].update(epoch=-(10**12))),
    "a step that is a text": saved(lambda state, meta: meta["position"].update(step="os.system('true')")),
    "a pipe": pipe(LAST),
    "a link": link(LAST),
}

OF_ENTRIES: dict[str, Change] = {
    "nested": text("tracking/entries.jsonl", b"[" * 500_000 + b"\n"),
    "a pickle": plain_pickle("tracking/entries.jsonl"),
    "huge": sparse("tracking/entries.jsonl"),
    "one line of 100 MB": text("tracking/files.jsonl", bytes(100_000_000)),
    "names that are no text": text("tracking/series.names", b"\xff\xfe\n" * 10),
    "huge names": sparse("tracking/series.names"),
    "a pipe": pipe("tracking/entries.jsonl"),
    "a link": link("tracking/files.jsonl"),
}

OF_NOTES: dict[str, Change] = {
    "nested": text("tracking/run.json", "[" * 500_000),
    "a pickle": plain_pickle("tracking/run.json"),
    "a list": text("tracking/run.json", "[1]"),
    "huge": sparse("tracking/run.json"),
    "a pipe": pipe("tracking/run.json"),
}


@pytest.fixture
def refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[Change, list[str]], str]:
    """Change the folder, run a command, and return the one sentence that it ends with."""

    def run(change: Change, arguments: list[str]) -> str:
        marker = folder.parent / "marker"
        change(folder, marker)
        names = sorted(path.name for path in folder.parent.iterdir())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        capfd.readouterr()
        start = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert time.monotonic() - start < SECONDS
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
        told = capfd.readouterr().err
        assert ended.value.code == 2 and not marker.exists()
        assert told.startswith("einthoven: error: ") and told.endswith("\n") and told.count("\n") == 1
        assert told.strip().isprintable() and len(told) < 1000
        assert sorted(path.name for path in folder.parent.iterdir()) == names  # nothing was written beside it
        return told

    return run


@pytest.mark.parametrize("change", OF_BUNDLES.values(), ids=OF_BUNDLES)
def test_a_bundle_of_a_stranger(
    refused: Callable[..., str], folder: Path, corpus: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(corpus.rglob("*.hea"))
    assert "run/bundle" in refused(change, ["predict", str(folder), str(record)])


@pytest.mark.parametrize("change", OF_CHECKPOINTS.values(), ids=OF_CHECKPOINTS)
def test_a_checkpoint_of_a_stranger(refused: Callable[..., str], folder: Path, change: Change) -> None:
    assert "checkpoints" in refused(change, ["evaluate", f"run={folder}"])


@pytest.mark.parametrize("change", OF_NOTES.values(), ids=OF_NOTES)
def test_the_notes_of_a_stranger(refused: Callable[..., str], folder: Path, change: Change) -> None:
    assert "run.json" in refused(change, ["report", str(folder)])


@pytest.mark.parametrize("change", OF_ENTRIES.values(), ids=OF_ENTRIES)
def test_the_entries_of_a_stranger(refused: Callable[..., str], folder: Path, change: Change) -> None:
    def interrupted(folder: Path, marker: Path) -> None:
        saved(lambda state, meta: meta["position"].update(epoch=0))(folder, marker)
        change(folder, marker)

    assert "tracking" in refused(interrupted, ["train", f"resume={folder}"])


@pytest.mark.parametrize("name", ["a pickle of torch", "nested state", "epochs without end", "a link"])
def test_a_run_of_a_stranger_is_not_resumed(refused: Callable[..., str], folder: Path, name: str) -> None:
    assert "checkpoints" in refused(OF_CHECKPOINTS[name], ["train", f"resume={folder}"])


DENSE = {"_target_": "einthoven.models.mlp.MLP", "_partial_": True, "activation": "relu", "norm": "batch"}
DENSE |= {"dropout": 0.5, "skip": False}
LARGE_NETWORKS = {
    "wide": with_network({**DENSE, "width": 4000, "depth": 2}),
    "deep": with_network({**DENSE, "width": 4, "depth": 1000}),
}


@pytest.mark.parametrize("command", ["evaluate", "resume", "init_from", "embed"])
@pytest.mark.parametrize("change", LARGE_NETWORKS.values(), ids=LARGE_NETWORKS)
def test_a_network_is_not_built_larger_than_its_weights(
    refused: Callable[..., str], folder: Path, corpus: Path, workplace: Path, command: str, change: Change
) -> None:
    record = str(next(corpus.rglob("*.hea")))
    uri = f"tracking.uri=sqlite:///{workplace}/mlflow.db"
    arguments = {
        # The folder has no bundle, and `evaluate` would write one.
        "evaluate": ["evaluate", f"run={folder}"],
        "resume": ["train", f"resume={folder}"],
        "init_from": ["train", f"init_from={folder}", "data=ptbxl", f"data.root={corpus}", uri],
        "embed": ["embed", str(folder), record, "--output", str(workplace / "large.npz")],
    }
    assert "more or larger tensors than the file" in refused(change, arguments[command])
