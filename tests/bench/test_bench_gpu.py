"""The measurement of a GPU, with tiny sizes on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "bench"


def test_all_parts_run_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    import bench_gpu

    torch._dynamo.reset()
    cache = f"data.cache={tmp_path / 'cache'}"
    bench_gpu.main(
        ["--cpu", "--backend", "aot_eager", "--auroc", "0.0", "--json", "raw.json", "data.records=60", cache]
    )
    results = json.loads(Path("raw.json").read_text())
    assert [(row["batch"], row["mode"]) for row in results["steps"]] == [
        (4, "eager"),
        (4, "compiled"),
        (8, "eager"),
        (8, "compiled"),
    ]
    assert all(row["launches"] > 50 and row["share"] > 0 and row["waits"] == 0 for row in results["steps"])
    assert [row["mode"] for row in results["training"]] == ["eager", "compiled"]
    assert all(row["is_reached"] and len(row["aurocs"]) == 1 for row in results["training"])
    first, second = (row["aurocs"][0] for row in results["training"])
    assert first == pytest.approx(second, abs=1e-3)
    table = capsys.readouterr().out
    assert "| 8 | compiled |" in table and "| embedded | compiled | 1 |" in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, which the bench would measure")
def test_without_a_gpu_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_gpu

    with pytest.raises(SystemExit) as end:
        bench_gpu.main([])
    assert end.value.code == 1
    assert "no GPU" in capsys.readouterr().out
    sys.modules.pop("bench_gpu")
