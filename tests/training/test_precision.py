import pytest
import torch

from einthoven.errors import UserError
from einthoven.training.precision import choose_autocast


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [("cpu", None, "fp32"), ("mps", None, "fp32"), ("cuda", (7, 5), "fp32"), ("cuda", (8, 0), "bf16")],
)
def test_auto_takes_bf16_only_on_devices_with_units_for_it(monkeypatch, device, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    # On a CPU, bf16 is slower without AVX-512 or AMX. The choice must not depend on that.
    for instructions in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=instructions: found)
        name, autocast = choose_autocast("auto", torch.device(device))
        assert name == expected
    if device == "cpu":
        with autocast():
            assert not torch.is_autocast_enabled("cpu")
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bf16_is_used_where_the_user_says_so():
    name, autocast = choose_autocast("bf16", torch.device("cpu"))
    with autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert name == "bf16"
    with pytest.raises(UserError, match=r"trainer\.precision=fp8: expected one of auto, fp32, bf16"):
        choose_autocast("fp8", torch.device("cpu"))
