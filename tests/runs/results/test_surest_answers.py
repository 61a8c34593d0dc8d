"""Which predictions are explained on the page of a run."""

from __future__ import annotations

import torch

from einthoven.runs.results.surest_answers import MAX_RECORDS, choose_answers


def test_the_most_frequent_classes_have_an_answer_each() -> None:
    # Class k has k + 1 records with this label alone, and the last of them is the most confident one.
    class_of_record = torch.arange(8).repeat_interleave(torch.arange(8) + 1)
    y = torch.nn.functional.one_hot(class_of_record).double()
    p = y * torch.linspace(0.1, 0.9, len(y), dtype=torch.float64)[:, None]
    rows, classes = choose_answers(y, p)
    assert classes.tolist() == [7, 6, 5, 4, 3, 2] and len(classes) == MAX_RECORDS
    assert rows.tolist() == [35, 27, 20, 14, 9, 5]
