"""A record without a chest lead: the lead is computed from the others, where the loss was measured and is small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einthoven import cli
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.functional.vectorcardiogram import INDEPENDENT_LEADS
from einthoven.predict import Predictor
from einthoven.predict.missing_lead import MissingLead, compute_lead

OTHERS = [lead for lead in INDEPENDENT_LEADS if lead != "V3"]
V3 = MissingLead({"V2": 0.5, "V4": 0.6, "I": -0.1}, 0.004, 0.001, 0.007)


def record(seed: int = 0) -> Record:
    """Twelve leads of noise."""
    signal = np.random.default_rng(seed).normal(0, 0.3, (12, 1000)).astype(np.float32)
    return Record(signal, 100.0, LEADS, "r")


def without(whole: Record, *leads: str) -> Record:
    rows = [row for row, lead in enumerate(whole.leads) if lead not in leads]
    return replace(whole, signal=whole.signal[rows], leads=tuple(whole.leads[row] for row in rows))


def test_the_lead_is_computed_and_a_lead_of_the_file_is_not_used() -> None:
    whole = record()
    computed = compute_lead(without(whole, "V3"), "V3", V3, LEADS)
    expected = 0.5 * whole.signal[7] + 0.6 * whole.signal[9] - 0.1 * whole.signal[0]
    assert computed.leads == LEADS
    np.testing.assert_allclose(computed.signal[8], expected, atol=1e-6)
    assert np.array_equal(np.delete(computed.signal, 8, axis=0), np.delete(whole.signal, 8, axis=0))
    assert any("V3 was not read" in caution for caution in computed.cautions)
    assert np.array_equal(compute_lead(whole, "V3", V3, LEADS).signal, computed.signal)
    assert "lowers the macro AUROC by 0.004 (95 % 0.001 to 0.007)" in computed.cautions[-1]
    # aVL has no weight, but the model reads it.
    for absent in ("V2", "aVL"):
        with pytest.raises(
            UserError, match=f"r: {absent} missing, too; with --without V3, this model needs I II III aVR"
        ):
            compute_lead(without(whole, absent, "V3"), "V3", V3, LEADS)


def test_an_answer_without_a_lead(make_bundle: Callable[..., Any], tmp_path: Path) -> None:
    bundle = make_bundle(missing_leads={"V3": V3, "V6": MissingLead({"V5": 1.0}, 0.004, -0.001, 0.011)})
    bundle.save(tmp_path / "bundle")
    whole = record()
    expected = Predictor([bundle]).predict([compute_lead(whole, "V3", V3, LEADS)])
    from einthoven.predict import load_bundle

    found = load_bundle(tmp_path / "bundle", without="V3").predict([without(whole, "V3")])
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert any("V3 was not read" in caution for caution in found.cautions[0])
    assert Predictor([bundle]).can_answer_without("V3") and not Predictor([bundle]).can_answer_without("V6")
    # Only one lead may be missing.
    both = make_bundle(missing_leads={"V3": V3, "V4": V3})
    assert not Predictor([both], without="V4").can_answer_without("V3")
    # The loss is small, but its interval is not.
    with pytest.raises(UserError, match=r"--without V6: .* lower by 0.004 \(95 % -0.001 to 0.011\) .* one of V3"):
        Predictor([bundle], without="V6")
    with pytest.raises(UserError, match="--without V1: it was not measured how good this model is without this lead"):
        Predictor([bundle], without="V1")
    with pytest.raises(UserError, match="expected a record with all of its leads"):
        Predictor([make_bundle()], without="V3")


def test_the_command_answers_a_file_without_a_lead(
    make_bundle: Callable[..., Any],
    tmp_path: Path,
    write_record: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_bundle(missing_leads={"V3": V3}).save(tmp_path / "bundle")
    few = [lead for lead in LEADS if lead != "V3"]
    write_record(tmp_path, "few", np.rint(without(record(), "V3").signal * 1000).astype(np.int16), leads=few)
    command = ["predict", str(tmp_path / "bundle"), str(tmp_path / "few.hea")]
    with pytest.raises(SystemExit) as end:
        cli.main(command)
    assert end.value.code == 1 and "With --without V3, this lead is computed" in capfd.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--without", "V9"])
    assert end.value.code == 2 and "--without V9: no such lead" in capfd.readouterr().err
    cli.main([*command, "--without", "v3"])
    shown = " ".join(capfd.readouterr().out.split())
    assert "few.hea" in shown and "V3 was not" in shown
