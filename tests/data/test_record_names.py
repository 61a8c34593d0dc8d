from __future__ import annotations

import pandas as pd

from einthoven.data.record_names import names_in


def test_a_record_of_a_folder_is_named_by_its_file_too() -> None:
    numbers = {"ecg_id": [1, 300, 301], "record_id": [1, 3, 3]}
    assert names_in(pd.DataFrame(numbers))(3) == "3"
    name = names_in(pd.DataFrame({**numbers, "path": ["a.hea", "/x/b/r3.hea", "/x/b/r3.hea"]}))
    assert [name(number) for number in (1, 3, 301, 7)] == ["1 [a.hea]", "3 [r3.hea]", "301 [r3.hea]", "7"]
    assert names_in(pd.DataFrame({**numbers, "name": ["HR01", None, None]}))(3) == "3"
