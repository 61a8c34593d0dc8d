"""Fine-tuning: load the base into the model of a run, and decide which stages train in which epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from einthoven.contracts import CLASS_OUTPUTS
from einthoven.errors import UserError
from einthoven.models.encoder import without_head
from einthoven.models.frontend import Classifier
from einthoven.optim.base_penalties import Start
from einthoven.runs.folder.base_model import BaseModel

_NETWORK = "network."
_HEAD = "network.head."
_ROWS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose weight has one row for each output."""


@dataclass(frozen=True)
class Loaded:
    """What a model has got from its base."""

    whole: tuple[str, ...]
    """Parameters and buffers that were loaded as a whole."""
    rows: Mapping[str, tuple[Tensor, Tensor]]
    """Parameter of the last layer -> its rows that were loaded, and where they are in the base."""
    columns: tuple[Tensor, Tensor]
    """The shared classes among the outputs of the model, and among those of the base, (S,)."""
    sentence: str
    """All of that in words."""


def load_base(model: Classifier, base: BaseModel, classes: Sequence[str]) -> Loaded:
    """Load the frontend and the encoder of a base into a model, and what fits of its head.

    Classes with the name of a class of the base keep their rows of the last layer. Then the rest of the head is loaded,
    too. Without such a class the head is new. `classes` are the outputs of the model.
    """
    try:
        without_head(model.network)
    except UserError as error:
        raise UserError(f"{base.source}: {error}") from None
    own = model.state_dict()
    for name, value in own.items():
        if not name.startswith(_HEAD):
            _check_shape(base, name, value)
    whole = [name for name in own if not name.startswith(_HEAD)]

    # The head: all of it, or the rows of the last layer whose classes have the same name, and the layers before it.
    last = _last_layer(model)
    shared = _shared_classes(base, last, classes)
    head = [name for name in own if name.startswith(_HEAD)]
    rows: dict[str, tuple[Tensor, Tensor]] = {}
    columns = _positions(shared, classes), _positions(shared, base.classes)
    if shared:
        for name in head:
            is_last = name.startswith(f"{last}.")
            if is_last and tuple(classes) != base.classes:
                rows[name] = columns
            else:
                _check_shape(base, name, own[name])
                whole.append(name)

    with torch.no_grad():
        for name in whole:
            own[name].copy_(base.state[name])
        for name, (ours, theirs) in rows.items():
            own[name][ours] = base.state[name][theirs].to(own[name])
    return Loaded(tuple(whole), rows, columns, _describe(model, base, shared, classes))


def _check_shape(base: BaseModel, name: str, value: Tensor) -> None:
    """Refuse a base that does not have a tensor in the shape of the model."""
    in_base = base.state.get(name)
    if in_base is None or in_base.shape != value.shape:
        shape = "missing" if in_base is None else tuple(in_base.shape)
        raise UserError(
            f"{base.source}: {name} is {shape} in the base and {tuple(value.shape)} here; expected the same network, "
            "and windows of the same length."
        )


def _last_layer(model: Classifier) -> str:
    """Return the name of the layer whose rows are the outputs."""
    names = [name for name, module in model.named_modules() if isinstance(module, _ROWS)]
    last = [name for name in names if f"{name}.".startswith(_HEAD)]
    return last[-1] if last else ""


def _shared_classes(base: BaseModel, last: str, classes: Sequence[str]) -> list[str]:
    """Return the classes of a model that are outputs of its base, too, in the order of the model."""
    weight = base.state.get(f"{last}.weight")
    # The outputs of a pretraining run are not its classes.
    if weight is None or len(weight) != len(base.classes):
        return []
    return [name for name in classes if name in base.classes]


def _positions(names: Sequence[str], classes: Sequence[str]) -> Tensor:
    return torch.tensor([list(classes).index(name) for name in names], dtype=torch.long)


def _describe(model: Classifier, base: BaseModel, shared: Sequence[str], classes: Sequence[str]) -> str:
    """Return one line about what was loaded, what is new, and what of the base is not used."""
    stages = [name for name, _ in model.network.named_children() if name != "head"]
    new = [name for name in classes if name not in shared]
    dropped = [name for name in base.classes if name not in shared]
    loaded = f"the frontend and the stages {', '.join(stages)}"
    # Modules beside the network, such as a decoder, or parts of the network.
    own = model.state_dict()
    unused = [name.removeprefix(_NETWORK).split(".")[0] for name in base.state if name not in own]

    # The head
    if not shared:
        head = "The head is new"
        if any(name.startswith(_HEAD) for name in base.state):
            unused.append("head")
    elif tuple(classes) == base.classes:
        head = "The head is loaded, too"
    else:
        head = f"The last layer of the head has the rows of {', '.join(shared)}"
        if new:
            head += f", and new rows for {', '.join(new)}"
        if dropped:
            unused.append(f"the rows of {', '.join(dropped)}")

    sentences = [f"{base.source}, {base.description}: the run starts from {loaded}.", f"{head}."]
    if unused:
        sentences.append(f"Not used: {', '.join(dict.fromkeys(unused))}.")
    if base.ancestry is None:
        sentences.append(
            "The base does not list its training records. So it is not known whether it was trained on a record that "
            "is judged here."
        )
    return " ".join(sentences)


def start_of(
    base: BaseModel, loaded: Loaded, model: Classifier, output: str, make_network: Callable[[int], nn.Module]
) -> Start:
    """Return what the penalties of a run need of its base.

    `output` is ``sigmoid``, ``softmax`` or ``identity``: the outputs of the run. `make_network` makes a network of the
    architecture of the run with a number of outputs.
    """
    device = next(model.parameters()).device
    columns, base_columns = (positions.to(device) for positions in loaded.columns)
    # The divergence is defined for the same kind of probabilities only.
    if base.output != output or output not in CLASS_OUTPUTS:
        columns = columns[:0]
    base_model: nn.Module = nn.Identity()
    if len(columns):
        base_model = Classifier(deepcopy(model.frontend), make_network(len(base.classes))).to(device)
        base_model.load_state_dict({name: base.state[name] for name in base_model.state_dict()})
        base_model.requires_grad_(False).eval()

    @torch.no_grad()
    def logits(x: Tensor) -> Tensor:
        outputs: Tensor = base_model(x).float()
        return outputs[:, base_columns] / base.temperature

    # The weights that a training may change, with their values in the base.
    weights: dict[str, tuple[Tensor | None, Tensor]] = {}
    for name, _ in model.named_parameters():
        if name in loaded.whole:
            weights[name] = None, base.state[name].to(device)
        elif name in loaded.rows:
            rows, base_rows = loaded.rows[name]
            weights[name] = rows.to(device), base.state[name][base_rows].to(device)
    return Start(logits, columns, output == "softmax", weights)


@dataclass
class FineTuning:
    """Which stages of a network train in which epoch.

    Stages are trained from the head downwards. A frozen stage is in evaluation mode: its batch norms use and keep their
    running statistics, and its dropout is off.
    """

    model: Classifier
    """All its weights that are to be trained require a gradient."""
    mode: str
    """``full`` trains all stages. ``probe`` trains the head only. ``gradual`` trains the head in the first epoch, and
    one more stage in each further epoch (Howard & Ruder, "Universal language model fine-tuning for text
    classification", 2018, section 3.3)."""
    freeze_norms: bool
    """Keep the running statistics of all batch norms."""
    _parameters: dict[str, list[nn.Parameter]] = field(init=False)
    _norms: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """List the parameters of each stage, and find the batch norms."""
        network = self.model.network
        children = [name for name, _ in network.named_children()]
        self._parameters = {name: [] for name in children}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                # Parameters of the network itself, such as a class token, are read by its first stage.
                stage = name.split(".")[0]
                self._parameters[stage if stage in self._parameters else children[0]].append(parameter)
        if self.freeze_norms:
            norms = nn.modules.batchnorm._BatchNorm
            self._norms = tuple(name for name, module in self.model.named_modules() if isinstance(module, norms))
            if not self._norms:
                raise UserError("trainer.freeze_norms=true: this network has no batch norm; expected false.")

    @property
    def stages(self) -> dict[str, list[nn.Parameter]]:
        """The stages with parameters, and these: the head first."""
        return {name: self._parameters[name] for name in reversed(self._parameters) if self._parameters[name]}

    def check_epochs(self, epochs: int) -> None:
        """Refuse a training that ends before each stage has been trained."""
        if self.mode == "gradual" and epochs < len(self.stages):
            raise UserError(
                f"trainer.finetune=gradual: trains one more of {len(self.stages)} stages in each epoch, and "
                f"trainer.epochs={epochs}; expected {len(self.stages)} epochs or more."
            )

    def begin_epoch(self, epoch: int) -> None:
        """Freeze and unfreeze stages for an epoch, counted from 0."""
        count = {"probe": 1, "gradual": epoch + 1}.get(self.mode, len(self.stages))
        trained = list(self.stages)[:count]
        for name, parameters in self._parameters.items():
            for parameter in parameters:
                parameter.requires_grad_(name in trained)

        # Stages without parameters, such as a pooling, belong to the stage behind them.
        children = list(self._parameters)
        first = children.index(trained[-1]) if count < len(self.stages) else 0
        self.model.frozen = (*(f"{_NETWORK}{name}" for name in children[:first]), *self._norms)
        self.model.train(self.model.training)
