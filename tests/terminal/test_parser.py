"""Options and files of a command line, in any order."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from einthoven.commands import embed, export, predict
from einthoven.errors import UserError
from einthoven.predict import DESCRIPTION
from einthoven.terminal.parser import bundles_and_files, check_flags


@pytest.mark.parametrize("order", list(permutations(["RUN", "A.hea", "--csv", "--fs=500"])))
def test_options_and_files_stand_in_any_order(order: tuple[str, ...]) -> None:
    options = predict._options(order)
    assert options.paths == [word for word in order if not word.startswith("--")]
    assert options.output == "csv" and options.fs == 500


def test_an_option_with_a_value_stands_between_files() -> None:
    options = embed._options(["RUN", "--output", "x.csv", "A", "--stride", "5", "B"])
    assert options.paths == ["RUN", "A", "B"] and options.output == Path("x.csv") and options.stride == 5


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["--", "-a.hea"], ["./-a.hea"]),
        (["x.hea", "--csv", "--", "--csv"], ["x.hea", "./--csv"]),
        (["--csv", "--", "x.hea"], ["x.hea"]),
    ],
)
def test_words_after_two_dashes_are_files(words: list[str], paths: list[str]) -> None:
    assert predict._options(words).paths == paths


def test_a_bundle_stands_before_or_after_the_files(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / DESCRIPTION).touch()
    for words in (["a.hea", str(bundle), "b.hea"], [str(bundle), "a.hea", "b.hea"], ["a.hea", "b.hea", str(bundle)]):
        assert bundles_and_files(words, "predict") == ([str(bundle)], ["a.hea", "b.hea"])


def test_a_bundle_that_does_not_exist_is_not_taken_for_a_record(tmp_path: Path) -> None:
    (tmp_path / "a.hea").touch()
    stem = str(tmp_path / "a")
    pattern = str(tmp_path / "*")
    assert bundles_and_files([stem, pattern, "b.hea"], "predict") == ([], [stem, pattern, "b.hea"])
    for words in (["outputs/run", stem], [stem, "outputs/run"], ["outputs/run"]):
        with pytest.raises(UserError, match=r"^outputs/run: no run, bundle or record of this name"):
            bundles_and_files(words, "predict")


def test_an_alpha_without_effect_is_refused() -> None:
    assert predict._choose_alpha(None, ()) == predict._choose_alpha(0.1, (0.05, 0.1)) == 0.1
    with pytest.raises(UserError, match=r"--alpha 0\.1: this bundle has no thresholds; einthoven evaluate"):
        predict._choose_alpha(0.1, ())
    with pytest.raises(UserError, match=r"--alpha 0\.3: this bundle has thresholds for 0\.05, 0\.1\."):
        predict._choose_alpha(0.3, (0.05, 0.1))


@pytest.mark.parametrize("words", [["run", "x.pt2"], ["x.pt2", "run"]])
def test_the_suffix_shows_which_word_is_the_exported_file(words: list[str]) -> None:
    assert export._read_words(words) == (["run"], Path("x.pt2"), False)


def test_the_last_of_two_words_without_such_a_suffix_is_the_file() -> None:
    assert export._read_words(["run", "x.foo"]) == (["run"], Path("x.foo"), False)
    assert export._read_words(["x.onnx", "--network"]) == ([], Path("x.onnx"), True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.hea", "--jsn"], "predict: --jsn: unknown; did you mean --json"),
        (["--foo=1", "a.hea"], "predict: --foo: unknown"),
        (["a.hea", ""], "a word of the command is empty"),
        (["a.hea", "--pdf"], "--pdf: expected one argument"),
        (["--csv"], "required: FILE"),
        (["a.hea", "--stride", "-1"], "--stride: -1 found; expected a positive number of seconds"),
        (["a.hea", "--stride=nan"], "--stride: nan found; expected a positive number of seconds"),
    ],
)
def test_a_wrong_word_is_refused(words: list[str], expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        predict._options(words)
    assert expected in str(refusal.value)


def test_flags_of_a_verb_without_a_parser() -> None:
    check_flags("list", ["--plot", "schedules", "a=-b"], ["--plot"])
    with pytest.raises(UserError, match="sync: --all: unknown"):
        check_flags("sync", ["outputs/x", "--all"])
