"""Record files of a plan."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from einthoven.data.store import plan
from einthoven.data.store.plan import RecordFiles


def test_record_files_are_those_of_the_column_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "NAMES_AT_ONCE", 4)
    names = [f"{k}.hea" for k in range(10)]
    files = RecordFiles(Path("root"), pd.Series(names, index=range(100, 110)))
    expected = [Path("root", name) for name in names]
    assert [files[k] for k in (0, 9, 3, 4, -1, 5, -10)] == [expected[k] for k in (0, 9, 3, 4, 9, 5, 0)]
    assert list(files) == expected and list(files[2:7]) == expected[2:7] and files[2:7][4] == expected[6]
    for outside in (10, -11):
        with pytest.raises(IndexError):
            files[outside]
