from __future__ import annotations

import pandas as pd

from einthoven.data.record_names import names_in


def test_a_record_of_a_folder_is_named_by_its_file_too() -> None:
    numbers = {"ecg_id": [1, 3, 301], "record_id": [1, 300, 3]}
    assert names_in(pd.DataFrame(numbers))(3) == "3"
    table = pd.DataFrame({**numbers, "path": ["a.hea", "/x/b/r300.hea", "/x/b/r3.hea"]})
    assert list(map(names_in(table), (1, 3, 300, 7))) == ["1 [a.hea]", "3 [r3.hea]", "300 [r300.hea]", "7"]
    # With windows of records, the number of a window can be that of another record.
    assert list(map(names_in(table, "ecg_id"), (1, 3, 301))) == ["1 [a.hea]", "3 [r300.hea]", "301 [r3.hea]"]


def test_the_records_of_several_sources_are_named_by_the_columns_of_each() -> None:
    table = pd.DataFrame({"record_id": [1, 2, 3], "path": ["a.hea", None, None], "name": [None, "HR01", None]})
    assert list(map(names_in(table), (1, 2, 3))) == ["1 [a.hea]", "2 [HR01]", "3"]
