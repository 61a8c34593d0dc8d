"""A bundle gives no answer for a record that is unlike the records of its training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from einthoven import cli
from einthoven.augment.leads import swap_matrices
from einthoven.data.doctor import Finding
from einthoven.data.formats.record import Record
from einthoven.data.synthetic.generate import iterate
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.refusal import Refusal

RULES = Refusal(("unit", "swap_la_ra"), 0.01, 0.015)


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle], with_familiarity: Callable[[Bundle], Bundle]) -> Bundle:
    return replace(with_familiarity(make_bundle()), refusal=replace(RULES, familiar=0.0))


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """A generated ECG in mV (12, 1000)."""
    sample = next(iterate(1, 4, rates=(100,)))
    millivolts: np.ndarray = sample.signals[100] * 1e-3
    return millivolts


def as_record(millivolts: np.ndarray) -> Record:
    return Record(millivolts.astype(np.float32), 100.0, LEADS, "r")


def test_the_limit_of_the_share_is_included() -> None:
    assert RULES.of_share(0.0101) is None and RULES.of_share(float("nan")) is None
    assert "1.0% of the calibration records" in str(RULES.of_share(0.01))
    harmless = Finding("child", "caution", (), 3.0, 16.0, "age 3")
    wrong = Finding("unit", "warning", (), 900.0, 20.0, "median amplitude 900 mV")
    assert RULES.of_findings([harmless]) is None
    assert RULES.of_findings([harmless, wrong]) == (
        "not answered, because it is unlike the training records: amplitudes of another unit (median amplitude 900 mV)."
    )


def test_a_unit_that_is_wrong_and_exchanged_arms_are_refused(bundle: Bundle, signal: np.ndarray) -> None:
    predictor = Predictor([bundle])
    assert predictor.predict([as_record(signal)]).refused == (None,)
    (swap,) = swap_matrices(["RA-LA"])
    for altered, reason in (
        (1000 * signal, "r: not answered.*another unit"),
        (signal / 1000, "r: not answered.*another unit"),
        (swap @ signal, "r: not answered.*arm electrodes exchanged"),
    ):
        with pytest.raises(UserError, match=reason):
            predictor.predict([as_record(altered)])
        with pytest.raises(UserError, match=reason):
            predictor.explain(as_record(altered))
    plain = Predictor([replace(bundle, refusal=None)])
    assert plain.predict([as_record(swap @ signal)]).refused == (None,)


def test_a_record_that_is_far_from_the_training_records_is_refused(bundle: Bundle, signal: np.ndarray) -> None:
    assert bundle.familiarity is not None
    share = float(Predictor([bundle]).predict([as_record(signal)]).familiar[0])
    strict = replace(bundle, refusal=replace(RULES, familiar=share))
    with pytest.raises(UserError, match="of the calibration records are as far from them"):
        Predictor([strict]).predict([as_record(signal)])


def test_the_rules_are_read_as_they_were_written(bundle: Bundle, tmp_path: Path) -> None:
    replace(bundle, refusal=RULES).save(tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle").refusal == RULES
    for wrong, shown in (("nothing", "'nothing'"), (["unit"], r"\['unit'\]")):
        replace(bundle, refusal=replace(RULES, findings=(wrong,))).save(tmp_path / "wrong")
        with pytest.raises(UserError, match=rf"refusal.findings is {shown}; expected codes of the doctor"):
            read_bundle(tmp_path / "wrong")


def test_the_command_answers_the_others(
    bundle: Bundle,
    signal: np.ndarray,
    tmp_path: Path,
    write_record: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    bundle.save(tmp_path / "bundle")
    write_record(tmp_path, "good", np.rint(1000 * signal).astype(np.int16))
    write_record(tmp_path, "tiny", np.rint(1000 * signal).astype(np.int16), gain="1000000(0)/mV")
    files = [str(tmp_path / name) for name in ("good.hea", "tiny.hea")]
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", str(tmp_path / "bundle"), *files, "--json"])
    assert end.value.code == 1
    found = json.loads(capfd.readouterr().out)
    assert [item["file"] for item in found["records"]] == files[:1]
    (refused,) = found["not_answered"]
    assert refused["file"] == files[1] and "tiny: not answered" in refused["reason"]
    # Without the doctor, its findings are unknown.
    cli.main(["predict", str(tmp_path / "bundle"), *files, "--json", "--no-doctor"])
    assert len(json.loads(capfd.readouterr().out)["records"]) == 2


def test_several_bundles_refuse_what_one_of_them_refuses(bundle: Bundle, signal: np.ndarray) -> None:
    both = Predictor([replace(bundle, refusal=None), bundle])
    with pytest.raises(UserError, match="another unit"):
        both.predict([as_record(1000 * signal)])
    assert load_bundle("synthetic").predict([as_record(1000 * signal)]).refused == (None,)
