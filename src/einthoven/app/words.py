"""Labels in words."""

from __future__ import annotations

from collections.abc import Mapping

from einthoven.data.synthetic.statements import STATEMENTS, SUPERCLASSES

_MEANINGS = {
    **{name: statement.description for name, statement in STATEMENTS.items()},
    **SUPERCLASSES,
}


def groups_in_words(groups: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return groups of labels, each label with its meaning. The bundle states it, or it is that of PTB-XL.

    The labels of a group get meanings of PTB-XL only if all of them are SCP-ECG statements or superclasses. A label of
    another corpus may have the same name and another meaning.
    """
    described = {}
    for group, meanings in groups.items():
        is_of_ptbxl = all(name in _MEANINGS for name in meanings)
        words = _MEANINGS if is_of_ptbxl else {}
        described[group] = {name: meaning or words.get(name, "") for name, meaning in meanings.items()}
    return described
