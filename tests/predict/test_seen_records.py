"""A record that the model was trained on is known by its signal, whatever file it comes in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from einthoven import cli
from einthoven.data.ancestry import Ancestry
from einthoven.data.formats.reading import read_record
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.packed_store import Store
from einthoven.data.store.plan import Plan
from einthoven.errors import UserError
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.bundle import DESCRIPTION, read_bundle
from einthoven.predict.sealed_folder import WEIGHTS, seal_description
from einthoven.predict.signal import InputFormat

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
TRAINED = "this record was in the training data"
WriteRecord = Callable[..., Path]


def noise(seed: int, samples: int = 1000) -> np.ndarray[Any, Any]:
    """White noise in µV whose limb leads do not contradict each other."""
    signal = 2 * np.rint(np.random.default_rng(seed).normal(0, 150, (12, samples))).astype(np.int16)
    i, ii = signal[0], signal[1]
    signal[2:6] = ii - i, -(i + ii) // 2, i - ii // 2, ii - i // 2
    return signal


def store_of(folder: Path, files: list[Path], **settings: Any) -> Store:
    n = np.arange(len(files)) + 1
    table = pd.DataFrame({"ecg_id": n, "patient_id": n, "strat_fold": n, "source": "x"})
    plan = Plan(**({"name": "x", "files": files, "table": table, "fs": 100.0, "seconds": 10.0} | settings))
    return open_or_build(plan, folder / "cache")


def predictor_of(make_bundle: Callable[..., Any], store: Store, *cuts: tuple[str, float | None]) -> Predictor:
    return Predictor([make_bundle(ancestry=Ancestry.trained_on(store.digests), cuts=cuts or (("crop", None),))])


def in_training(predictor: Predictor, *files: Path) -> list[bool | None]:
    found = predictor.predict(files)
    assert [TRAINED in cautions for cautions in found.cautions] == [bool(known) for known in found.in_training]
    return list(found.in_training)


def test_the_files_of_the_training_are_known_and_no_others(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord
) -> None:
    files = [write_record(tmp_path, f"r{seed}", noise(seed)) for seed in range(4)]
    predictor = predictor_of(make_bundle, store_of(tmp_path, files[:3]))
    assert in_training(predictor, *files) == [True, True, True, False]


def test_the_same_signal_in_another_format_and_under_another_name_is_known(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord
) -> None:
    file = write_record(tmp_path, "r", noise(0))
    predictor = predictor_of(make_bundle, store_of(tmp_path, [file]))
    elsewhere = write_record(tmp_path, "other", noise(0)[::-1], leads=LEADS[::-1])  # leads in another order
    millivolts = pd.DataFrame(noise(0).T / 1000, columns=[f"{lead} (mV)" for lead in LEADS])
    millivolts.insert(0, "time", np.arange(1000) / 100)
    millivolts.to_csv(tmp_path / "table.csv", index=False)
    finer = write_record(tmp_path, "finer", noise(0).astype(np.int64) * 4 // 4, gain="1000(0)/mV")
    assert in_training(predictor, elsewhere, tmp_path / "table.csv", finer) == [True, True, True]
    one_sample = noise(0)
    one_sample[3, 500] += 1
    assert in_training(predictor, write_record(tmp_path, "changed", one_sample)) == [False]


def wide(seed: int, samples: int = 1000) -> np.ndarray[Any, Any]:
    """Counts of every size: among them are some whose amplitude is next to the middle between two microvolts."""
    return np.random.default_rng(seed).integers(-32000, 32000, (12, samples)).astype(np.int16)


@pytest.mark.parametrize("gain", ["999.7(0)/mV", "1234.567(0)/mV", "1007.3(17)/mV", "409.55(0)/mV", "4096(0)/mV"])
@pytest.mark.parametrize("fs", [100, 360])
def test_rounding_does_not_hide_a_record(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord, gain: str, fs: int
) -> None:
    files = [write_record(tmp_path, f"r{seed}", wide(seed, 10 * fs), fs, gain=gain) for seed in range(3)]
    predictor = predictor_of(make_bundle, store_of(tmp_path, files))
    assert in_training(predictor, *files) == [True, True, True]


def test_what_is_predicted_from_is_what_the_store_holds(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord
) -> None:
    """Between two microvolts, a float32 in mV may decide otherwise than the file: the file is asked then."""
    files = [write_record(tmp_path, f"r{seed}", wide(seed), gain="999.7(0)/mV") for seed in range(3)]
    store = store_of(tmp_path, files)
    predictor = predictor_of(make_bundle, store)
    prepared = [predictor.prepare(file).signal[0] for file in files]
    np.testing.assert_array_equal(np.stack(prepared), store.signals[:])
    by_float = [predictor.prepare(read_record(file)).signal[0] for file in files]
    assert not np.array_equal(np.stack(by_float), store.signals[:])


@pytest.mark.parametrize(
    ("long", "stride"), [("crop", None), ("centre", None), ("slide", None), ("slide", 2.5), ("slide", 7.0)]
)
def test_windows_of_longer_records_are_known_as_they_were_cut(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord, long: str, stride: float | None
) -> None:
    file = write_record(tmp_path, "long", noise(0, 3456))
    store = store_of(tmp_path, [file], long=long, stride=stride)
    predictor = predictor_of(make_bundle, store, (long, stride))
    assert in_training(predictor, file) == [True]
    assert len(predictor.prepare(file).digests) == len(store.digests)
    assert in_training(predictor_of(make_bundle, store, ("crop", None)), file) == [long != "centre"]


def test_a_padded_record_is_known(make_bundle: Any, tmp_path: Path, write_record: WriteRecord) -> None:
    file = write_record(tmp_path, "short", noise(0, 700))
    bundle = make_bundle(
        input_format=InputFormat(LEADS, 100.0, 10.0, True, 1000, 500, "mean"),
        ancestry=Ancestry.trained_on(store_of(tmp_path, [file]).digests),
        cuts=(("crop", None),),
    )
    assert in_training(Predictor([bundle]), file) == [True]


def test_a_flat_line_is_nobodys_record(make_bundle: Any, tmp_path: Path, write_record: WriteRecord) -> None:
    file = write_record(tmp_path, "flat", np.zeros((12, 1000), np.int16))
    store = store_of(tmp_path, [file, write_record(tmp_path, "r", noise(0))])
    assert in_training(predictor_of(make_bundle, store), file) == [False]


def test_a_record_that_the_calibration_was_fitted_on_is_told_apart(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord
) -> None:
    files = [write_record(tmp_path, f"r{seed}", noise(seed)) for seed in range(2)]
    digests = store_of(tmp_path, files).digests
    bundle = make_bundle(ancestry=Ancestry.trained_on(digests[:1]).fitted_on(digests[1:]), cuts=(("crop", None),))
    found = Predictor([bundle]).predict(files)
    assert found.in_training == (True, False)
    assert found.cautions[1][0] == "the calibration was fitted on this record"


def test_one_member_of_an_ensemble_is_enough_and_one_without_a_list_says_nothing(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord
) -> None:
    file, other = write_record(tmp_path, "r", noise(0)), write_record(tmp_path, "o", noise(1))
    known = make_bundle(ancestry=Ancestry.trained_on(store_of(tmp_path, [file]).digests), cuts=(("crop", None),))
    silent = make_bundle(1)
    assert in_training(Predictor([silent, known]), file, other) == [True, False]
    assert in_training(Predictor([silent]), file) == [None]


def test_a_bundle_keeps_its_list_and_an_older_one_has_none(
    make_bundle: Any, saved: Path, tmp_path: Path, write_record: WriteRecord
) -> None:
    files = [write_record(tmp_path, f"r{seed}", noise(seed)) for seed in range(2)]
    ancestry = Ancestry.trained_on(store_of(tmp_path, files).digests)
    for named, folder in ((ancestry, tmp_path / "list"), (Ancestry(), tmp_path / "empty")):
        make_bundle(ancestry=named, cuts=(("slide", 2.5), ("crop", None))).save(folder)
        read = read_bundle(folder)
        assert read.ancestry is not None and read.ancestry.trained.tolist() == named.trained.tolist()
        assert read.cuts == (("slide", 2.5), ("crop", None))
    assert in_training(load_bundle(tmp_path / "list"), *files) == [True, True]
    description = json.loads((saved / DESCRIPTION).read_text())
    assert description.pop("ancestry") is None and read_bundle(saved).ancestry is None
    shutil.copytree(saved, tmp_path / "older")
    (tmp_path / "older" / DESCRIPTION).write_bytes(seal_description(description, (saved / WEIGHTS).read_bytes()))
    assert in_training(load_bundle(tmp_path / "older"), *files) == [None, None]


def test_the_beginning_of_a_training_record_is_known_and_so_is_a_record_behind_the_generator(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord
) -> None:
    long = noise(0, 3000)
    trained = store_of(tmp_path, [write_record(tmp_path, "long", long)], seconds=30.0)
    behind = store_of(tmp_path, [write_record(tmp_path, "behind", noise(1))])
    ancestry = Ancestry.trained_on(trained.digests, trained.first_seconds, behind.first_seconds)
    make_bundle(ancestry=ancestry, cuts=(("crop", None),)).save(tmp_path / "b")
    predictor = load_bundle(tmp_path / "b")
    beginning = write_record(tmp_path, "beginning", long[:, :1000])
    end = write_record(tmp_path, "end", long[:, 2000:])
    assert in_training(predictor, beginning, end, tmp_path / "behind.hea") == [True, False, False]
    (cautions,) = predictor.predict([tmp_path / "behind.hea"]).cautions
    assert cautions[0] == "the generator of the training records was fitted to this record, without its labels"


@pytest.mark.parametrize(
    "cuts",
    [None, [["crop"]], [["split", None]], [["slide", 0.0]], [["slide", 1e9]], [["crop", None]] * 101, [["slide", "2"]]],
)
def test_a_bundle_that_cuts_records_as_no_store_does_is_refused(make_bundle: Any, tmp_path: Path, cuts: Any) -> None:
    make_bundle(ancestry=Ancestry(), cuts=(("crop", None),)).save(tmp_path / "b")
    description = json.loads((tmp_path / "b" / DESCRIPTION).read_text())
    description["ancestry"]["cuts"] = cuts
    (tmp_path / "b" / DESCRIPTION).write_bytes(seal_description(description, (tmp_path / "b" / WEIGHTS).read_bytes()))
    with pytest.raises(UserError, match=r"ancestry\.cuts is .*; expected "):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize("digests", [np.zeros((3, 15), np.uint8), np.zeros((3, 16), np.int32), np.zeros(16, np.uint8)])
def test_a_list_of_another_form_is_refused(make_bundle: Any, tmp_path: Path, digests: Any) -> None:
    make_bundle(ancestry=Ancestry(), cuts=(("crop", None),)).save(tmp_path / "b")
    description = json.loads((tmp_path / "b" / DESCRIPTION).read_text())
    tensors = safetensors.numpy.load_file(tmp_path / "b" / WEIGHTS)
    weights = safetensors.numpy.save(tensors | {"ancestry.trained": digests})
    (tmp_path / "b" / WEIGHTS).write_bytes(weights)
    (tmp_path / "b" / DESCRIPTION).write_bytes(seal_description(description, weights))
    with pytest.raises(UserError, match="digests of"):
        read_bundle(tmp_path / "b")


def test_every_output_tells_it(
    make_bundle: Any, tmp_path: Path, write_record: WriteRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [str(write_record(tmp_path, f"r{seed}", noise(seed))) + ".hea" for seed in range(2)]
    ancestry = Ancestry.trained_on(store_of(tmp_path, [Path(files[0])]).digests)
    make_bundle(ancestry=ancestry, cuts=(("crop", None),)).save(tmp_path / "bundle")
    outputs = {}
    for kind in ("", "--json", "--csv"):
        cli.main(["predict", str(tmp_path / "bundle"), *files, *([kind] if kind else [])])
        outputs[kind] = capfd.readouterr().out
    assert [record["in_training_data"] for record in json.loads(outputs["--json"])["records"]] == [True, False]
    rows = pd.read_csv(pd.io.common.StringIO(outputs["--csv"]))
    assert rows["in_training_data"].tolist() == [True, False]
    assert TRAINED in rows["cautions"][0] and TRAINED not in str(rows["cautions"][1])
    assert " ".join(outputs[""].split()).count("training data") >= 1
    from einthoven.app.answer import answer
    from einthoven.predict.delineator import load_delineator

    (tmp_path / "one").mkdir()
    for suffix in (".hea", ".dat"):
        shutil.copy(tmp_path / f"r0{suffix}", tmp_path / "one")
    one = answer(load_bundle(tmp_path / "bundle"), load_delineator(), tmp_path / "one", {})
    assert TRAINED in one["cautions"]
