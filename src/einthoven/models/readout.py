"""The readout of classes: from the logits of statements to the logits of the classes that contain them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from einthoven.functional.noisy_or import member_table, noisy_or_logits


class Readout(nn.Module):
    """Read classes from statements. A class holds if at least one of its statements holds (`noisy_or_logits`).

    It has no weights. Several classes may contain the same statement, and a statement may be in no class.

    Parameters
    ----------
    statements : sequence of str
        Names of the inputs, S.
    members : sequence of sequence of str
        The statements of each class, in the order of the outputs, K.

    Raises
    ------
    ValueError
        If a class has no statement, or one that is no input.
    """

    table: Tensor

    def __init__(self, statements: Sequence[str], members: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.statements = tuple(statements)
        self.members = tuple(map(tuple, members))
        position = {name: k for k, name in enumerate(self.statements)}
        positions = []
        for names in self.members:
            if not names or not set(names) <= position.keys():
                raise ValueError(f"a class of the statements {names}; expected one or more of {self.statements}")
            positions.append([position[name] for name in names])
        # It follows from the names, so that no file of weights needs it.
        self.register_buffer("table", member_table(positions, len(self.statements)), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits of statements ``[..., S]`` to logits of classes ``[..., K]``."""
        return noisy_or_logits(logits, self.table.to(logits.device))

    def options(self) -> dict[str, list[object]]:
        """Return the arguments of the constructor as lists, for a JSON file."""
        return {"statements": list(self.statements), "members": [list(names) for names in self.members]}

    def extra_repr(self) -> str:
        """Show the numbers of statements and classes."""
        return f"{len(self.statements)}, {len(self.members)}"
