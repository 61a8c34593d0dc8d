"""The origin of a store: which source made it, with what its labels are made from. So a store opens without its source.

``source.json`` in the folder of a store names the class of the source and the options that its labels depend on, and
``labels/`` holds copies of the files that its labels are made from, such as ``scp_statements.csv`` of PTB-XL. All other
values that labels, folds and patients need are columns of the table of the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.atomic import atomic, write_text
from einthoven.errors import UserError
from einthoven.files import check_ordinary, file_digest, read_file, seal, unseal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILE = "source.json"
FOLDER = "labels"
_MAX_BYTES = 1 << 20
_PLACES = ("root", "cache")
"""Options that name folders of the user."""


@dataclass(frozen=True)
class Origin:
    """The source of a store.

    Attributes
    ----------
    target : str
        Dotted name of the class of the source.
    options : mapping
        Its options that labels depend on, and ``fs``.
    pads : bool
        Whether shorter records were padded.
    files : tuple of Path
        Files that labels are made from.
    """

    target: str
    options: Mapping[str, Any]
    pads: bool
    files: tuple[Path, ...] = field(default=())

    @classmethod
    def from_source(cls, source: DataclassInstance, files: tuple[Path, ...]) -> Origin:
        """Return the origin of the stores of a source.

        The attribute ``label_options`` of a source names the options that its labels depend on. Without it, all options
        but ``root`` and ``cache`` are stored.
        """
        source_class = type(source)
        names = getattr(source_class, "label_options", None)
        if names is None:
            names = [option.name for option in fields(source) if option.name not in _PLACES]
        options = {name: getattr(source, name) for name in ("fs", *names)}
        pads = getattr(source, "short", None) == "pad"
        return cls(f"{source_class.__module__}.{source_class.__qualname__}", options, pads, files)

    @property
    def is_generated(self) -> bool:
        """Whether the records are embedded data, which have the layout of PTB-XL and name themselves ``synthetic``."""
        return self.options.get("source") == "synthetic"

    def write(self, store: Path) -> None:
        """Write the origin into the folder of a store, which other processes may read now.

        ``source.json`` is written last. A store that has it has the copies, too.
        """
        copies = store / FOLDER
        copies.mkdir(exist_ok=True)
        for file in self.files:
            with atomic(copies / file.name) as partial:
                partial.write_bytes(file.read_bytes())
        digests = {file.name: file_digest(copies / file.name) for file in self.files}
        options = json.loads(json.dumps(self.options, default=str))
        content = {"source": self.target, "options": options, "pads": self.pads, "files": digests}
        write_text(store / FILE, seal(content))

    @classmethod
    def read(cls, store: Path) -> Origin:
        """Read the origin of a store.

        Raises
        ------
        UserError
            If the store has none, or it is damaged.
        """
        file = store / FILE
        if not file.exists():
            raise UserError(
                f"{store}: does not say which source made it, because an earlier version packed it; expected a store "
                "that einthoven prepare has opened since, with the data options of its source."
            )
        try:
            check_ordinary(store, [FOLDER])
            content = unseal(read_file(file, _MAX_BYTES).decode())
            files = tuple(store / FOLDER / str(name) for name in content["files"])
            for copied, digest in zip(files, content["files"].values(), strict=True):
                if copied.parent != store / FOLDER or file_digest(copied) != digest:
                    raise ValueError(f"{FOLDER}/{copied.name} is not what was written")
            return cls(str(content["source"]), dict(content["options"]), bool(content["pads"]), files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{file}: damaged ({reason}); expected what einthoven prepare wrote.") from None
