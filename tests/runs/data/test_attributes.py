"""Attributes of records against rows as PTB-XL's table holds them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pandas as pd

from einthoven.runs.data.attributes import attributes

TABLE = """ecg_id,age,sex,site,device,baseline_drift,static_noise,burst_noise,electrodes_problems,validated_by_human
1,56.0,1,0.0,CS-12   E,,", I-V1,  ",,,True
2,19.0,0,12.0,AT-6     6,  ,,alles,,False
3,,1,,,"V1",,,,
"""


def test_the_columns_of_ptbxl_are_told_apart() -> None:
    assert attributes(pd.read_csv(StringIO(TABLE))) == {
        "age": ["40 to 59", "0 to 39", None],
        "sex": ["female", "male", "female"],
        "validated_by_human": ["yes", "no", None],
        "site": ["0", "12", None],
        "device": ["CS-12 E", "AT-6 6", None],
        "baseline_drift": ["no", "no", "yes"],
        "static_noise": ["yes", "no", "no"],
        "burst_noise": ["no", "yes", "no"],
        "electrodes_problems": ["no", "no", "no"],
    }
    assert attributes(pd.DataFrame({"ecg_id": [1], "source": ["georgia"]})) == {"source": ["georgia"]}


def test_of_the_real_table_every_record_is_in_one_group(real_data: Path) -> None:
    table = pd.read_csv(real_data / "ptbxl" / "ptbxl_database.csv")
    found = attributes(table)
    assert set(found) >= {"age", "sex", "site", "device", "static_noise", "validated_by_human"}
    assert found["sex"].count("female") == (table["sex"] == 1).sum() and None not in found["sex"]
    assert found["static_noise"].count("yes") == table["static_noise"].notna().sum()
    assert found["age"].count("80 +") == (table["age"] >= 80).sum()
    assert found["site"].count("2") == (table["site"] == 2).sum() > 0
    assert not any("  " in device for device in found["device"] if device)
