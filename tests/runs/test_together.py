"""Runs of two processes that torchrun has started, and what they refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from einthoven import cli
from einthoven.errors import UserError
from einthoven.runs.config.run_config import read_config
from einthoven.runs.network.network_state import refuse_unshared
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.together import is_begun_with, joined, refuse_alone_only, refuse_forgotten_folder, uses_gpus
from einthoven.training import checkpoint, connection
from einthoven.training.launch import Launch, read_launch
from two_steps import Notes, composed, train

OPTIONS = (
    "data.records=60",
    "model=mlp",
    "model.width=8",
    "model.depth=1",
    "trainer.batch_size=15",  # not a multiple of the number of processes
    "trainer.epochs=40",
    "tracking.offline=true",
    "tracking.artifacts=false",
)
ENVIRONMENT = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "1",
    "TORCHELASTIC_MAX_RESTARTS": "3",
}
LAUNCH = Launch(1, 2, 1, "node1", 29500, hosts_store=False, restarts=1, most_restarts=3)


def process_of_rank(rank: int, parent: int) -> int:
    """The process with this rank that torchrun has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_child = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent
            if is_child and f"RANK={rank}" in (folder / "environ").read_text().split("\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the ranks of processes are read from /proc")
def test_a_killed_process_is_a_sentence_and_torchrun_continues_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["--max-restarts", "1", "-m", "einthoven", "train", "hydra.run.dir=run", *OPTIONS]
    started = subprocess.Popen([*torchrun, *words], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while not (tmp_path / "run/checkpoints/last.safetensors").exists():
            assert started.poll() is None, capfd.readouterr().err
            time.sleep(0.02)
        os.kill(process_of_rank(1, started.pid), signal.SIGKILL)
        assert started.wait(300) == 0
    finally:
        started.terminate()
        started.wait()
    out, err = capfd.readouterr()
    assert "process 0 of 2 ends, because another process has ended or does not answer; the run continues" in err
    assert "The run continues after epoch" in out
    assert out.count("epoch 40/40") == 1, "one process prints"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["data", "run"]

    # torchrun continues the run of its own command only.
    assert is_begun_with(tmp_path / "run", list(OPTIONS))
    assert not is_begun_with(tmp_path / "run", [*OPTIONS, "seed=1"])
    assert not is_begun_with(tmp_path / "data", list(OPTIONS))

    # The same run in one process, without an interruption.
    state, notes = checkpoint.load(tmp_path / "run/checkpoints/last.safetensors")
    assert notes["position"]["epoch"] == 40
    config = read_config(tmp_path / "run", "resume")
    config.data.cache = str(tmp_path / "data")
    alone = NetworkRun(config, tmp_path / "alone")
    train(alone, Notes())
    expected = alone.evaluate("train").p
    alone.model.load_state_dict(state["model"])
    np.testing.assert_allclose(alone.evaluate("train").p, expected, atol=1e-4)


def test_the_environment_of_torchrun_is_read() -> None:
    assert read_launch(ENVIRONMENT) == LAUNCH
    alone = {**ENVIRONMENT, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    assert read_launch({**alone, "TORCHELASTIC_MAX_RESTARTS": "0"}) is None
    assert read_launch(alone) == Launch(0, 1, 0, "node1", 29500, hosts_store=False, restarts=1, most_restarts=3)
    assert read_launch({}) is None


def test_one_process_that_torchrun_starts_again_continues_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {**ENVIRONMENT, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    short = [option.replace("epochs=40", "epochs=2") for option in OPTIONS]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(NetworkRun, "conclude", lose_process)
        cli.main(["train", "hydra.run.dir=run", *short])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    cli.main(["train", "hydra.run.dir=run", *short])
    assert "The run continues after its last epoch (2 of 2)" in capsys.readouterr().out

    # A first start in this folder, or a restart of another command, changes no file of the run.
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    for restarts, options in (("0", short), ("1", [*short, "seed=1"])):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        with pytest.raises(SystemExit):
            cli.main(["train", "hydra.run.dir=run", *options])
        assert "run: holds a trained run already" in capsys.readouterr().err
        assert all(file.read_bytes() == content for file, content in before.items())


def lose_process(*_: object, **__: object) -> None:
    raise OSError("the process is lost")


def test_processes_on_the_cpu_need_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    # One GPU for two processes.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="which has 1 GPUs"), joined(LAUNCH, uses_gpus=True):
        pass
    assert uses_gpus(composed("trainer.device=auto")) and not uses_gpus(composed("trainer.device=cpu"))
    monkeypatch.setattr(connection, "TCPStore", lose_process)
    with pytest.raises(OSError, match="the process is lost"), joined(LAUNCH, uses_gpus=False):
        pass


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("model=forest",), "and this model is fitted at once"),
        (("folds=cv",), "a cross-validation trains several"),
        (("trainer.device=cuda:1",), r"trainer\.device=cuda:1: .* expected auto, cpu, or cuda"),
    ],
)
def test_what_trains_alone_is_refused(overrides: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_alone_only(composed(*overrides), 2)


def test_a_run_that_a_restart_would_not_find_is_refused() -> None:
    refuse_forgotten_folder(LAUNCH, is_named=True)
    with pytest.raises(UserError, match=r"--max-restarts=3 .* expected hydra\.run\.dir=FOLDER"):
        refuse_forgotten_folder(LAUNCH, is_named=False)


def test_forward_passes_with_fewer_records_than_processes_are_refused() -> None:
    refuse_unshared(None, records=4, noise_records=4, processes=4)
    with pytest.raises(UserError, match="a forward pass has 3 records for 4 processes together"):
        refuse_unshared(None, records=3, noise_records=None, processes=4)
    with pytest.raises(UserError, match=r"diagnostics\.noise_scale"):
        refuse_unshared(None, records=4, noise_records=2, processes=4)
