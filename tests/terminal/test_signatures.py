"""The source shows the same parameters as the imported object."""

from __future__ import annotations

import inspect
import re

import pytest

from einthoven import trust
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.signatures import parameters_in_source

TARGETS = sorted(
    {
        (file.parent.name, target)
        for file in conf_folder().glob("*/*.yaml")
        for target in re.findall(r"^_target_: (\S+)", file.read_text(), flags=re.MULTILINE)
    }
)


@pytest.mark.parametrize(("group", "target"), TARGETS)
def test_the_source_shows_the_parameters_of_each_option(group: str, target: str) -> None:
    found = parameters_in_source(target)
    imported = list(inspect.signature(trust.find_target(target, group)).parameters)
    assert found in (None, imported)


def test_the_source_of_most_options_shows_their_parameters() -> None:
    unknown = [target for _, target in TARGETS if parameters_in_source(target) is None]
    assert len(unknown) < len(TARGETS) / 5, unknown


def test_what_the_source_does_not_show() -> None:
    for name in ("torch.optim.SGD", "einthoven", "einthoven.models", "einthoven.models.mlp", "einthoven.nothing.f"):
        assert parameters_in_source(name) is None
