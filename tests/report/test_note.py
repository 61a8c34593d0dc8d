from __future__ import annotations

from einthoven.diagnostics.rules.base import Advice
from einthoven.diagnostics.rules.remedies import Remedy
from einthoven.report.note import note


def test_the_result_comes_first_then_the_picture_then_advice() -> None:
    advice = Advice("low_rate", "Too slow.", "0.1", (Remedy("raise it"),), rank=1)
    text = note(["**AUROC 0.9**"], ["What it was."], {"AUROC": {"val": "0.8"}}, [advice], picture=("Curves", "a.png"))
    parts = text.split("\n\n")
    assert parts[:3] == ["**AUROC 0.9**", "![Curves](a.png)", "### Advice"]
    assert parts[3].startswith("1. **Too slow.** Raise it.") and parts[4:6] == ["### The run", "What it was."]
    assert parts[6] == "|  | val |\n| --- | --- |\n| AUROC | 0.8 |\n"


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    assert note([], ["What it was."], {}, []) == "### The run\n\nWhat it was.\n"
    assert note([], ["x"], {}, [], error="no room").startswith("**The run failed:** no room\n\n### The run")
