from __future__ import annotations

import pytest

from einthoven.tracking.privacy import without_folders
from einthoven.tracking.server import without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/ptb-xl", "…/ptb-xl"),
        ("/home/me/ptb-xl/", "…/ptb-xl"),
        ("data=ptbxl data.root=/home/me/ptb-xl seed=1", "data=ptbxl data.root=…/ptb-xl seed=1"),
        ("data.root=/a/b,/c/d", "data.root=…/b,…/d"),
        ("~/ecg", "…/ecg"),
        (r"C:\Users\me\ecg", "…/ecg"),
        ("data.root='/home/me/x'", "data.root='…/x'"),
        ("[Errno 2] No such file: '/home/me/secret/a.csv'", "[Errno 2] No such file: '…/a.csv'"),
        ("cannot read (/home/me/a.hea)", "cannot read (…/a.hea)"),
        ("/home/Max Mustermann/ecg/x", "…/x"),
        ("tracking.uri=sqlite:////home/me/mlflow.db", "tracking.uri=sqlite:…/mlflow.db"),
        ("LAO/LAE", "LAO/LAE"),
    ],
)
def test_folders_of_the_user_are_not_told(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_passwords_are_not_told() -> None:
    assert without_password("postgresql://me:secret@host:5432/runs") == "postgresql://me:…@host:5432/runs"
    assert without_password("postgresql://me:se/cret@host/runs") == "postgresql://me:…@host/runs"
    assert without_password("postgresql://host/runs?password=secret&x=1") == "postgresql://host/runs?password=…&x=1"
    assert without_password("https://host:5000/path") == "https://host:5000/path"
