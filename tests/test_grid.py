"""Every option with every other that it meets: two steps of training, or a refusal that says why.

Options are found in the folders of conf/, so a new one is covered by being there. What is refused stands in
the tables below, each with a word of its reason: a refusal that nobody expected fails, and so does an expected one
that is not made.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from omegaconf import DictConfig

from einthoven.build import build
from einthoven.errors import UserError
from einthoven.runs.config.settings import is_feature_model
from two_steps import CONF, Bench, a_model, combined, composed, options, two_steps

COVERED = {"augment", "init", "loss", "model", "optimizer", "pca", "penalty", "schedule", "task"}
ELSEWHERE = {  # where the options of the other groups are trained
    "advice": "tests/commands/test_advise.py, tests/diagnostics/test_advice.py",
    "calibration": "tests/evaluation/test_calibration.py, tests/commands/test_evaluate.py",
    "data": "tests/data, tests/commands",
    "diagnostics": "tests/commands",
    "experiment": "tests/commands/test_recipes.py",
    "explanation": "tests/commands/test_explain.py, tests/evaluation/test_saliency.py",
    "figure": "tests/commands/test_recipes.py, tests/report",
    "folds": "tests/commands/test_train.py",
    "hydra": "tests/commands/test_sweeps.py, tests/commands/test_search.py",
    "analysis": "tests/commands/test_recipes.py",
    "sweep": "tests/commands/test_train.py",
    "tracking": "tests/tracking",
    "trainer": "tests/commands/test_train.py",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("grid"), patch)


WITH_BRANCHES = a_model("conv_attention")  # it has a part for each initialization to work on


FITTED = [name for name in options("model") if is_feature_model(composed(f"model={name}"))]
ALONG_TIME = ("unet1d",)  # a value for each sample
NETWORKS = [name for name in options("model") if name not in (*FITTED, *ALONG_TIME)]
OF_WHOLE_RECORDS = "gives a value for each sample, and task="


def trains_or_says(bench: Bench, config: DictConfig, expected: str | None) -> None:
    """Train, or be refused in one sentence that has the expected word in it."""
    if expected is None:
        bench.train(config)
        return
    with pytest.raises(UserError) as refusal:
        bench.train(config)
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


def test_every_group_is_covered() -> None:
    assert {folder.name for folder in CONF.iterdir() if folder.is_dir()} == COVERED | ELSEWHERE.keys()


def in_turn(names: list[str], optimizer: str, several: int) -> list[str]:
    """Some of the names for an optimizer. The next optimizer has others, so that all are taken."""
    start = options("optimizer").index(optimizer)
    return [names[(start + k) % len(names)] for k in range(several)]


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_optimizer_and_schedule(bench: Bench, optimizer: str) -> None:
    """A schedule is a function of the step. That of a plateau alone looks at what came out."""
    run = bench.assembled(combined(optimizer=(f"optimizer={optimizer}",)))
    for schedule in sorted({"plateau", *in_turn(options("schedule"), optimizer, 3)}):
        run.schedule = build(composed(f"schedule={schedule}").schedule)
        assert two_steps(run)["watch/optim/lr"] >= 0, schedule


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_optimizer_and_penalty(bench: Bench, optimizer: str) -> None:
    for penalty in options("penalty"):
        config = combined(optimizer=(f"optimizer={optimizer}",), penalty=(f"penalty={penalty}",))
        averages = (optimizer, penalty) == ("schedule_free_adamw", "l1_proximal")  # averages are not exactly zero
        refusal = "penalty=l1" if averages else "needs a base" if penalty.endswith("_to_base") else None
        trains_or_says(bench, config, refusal)


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_optimizer_and_penalty_to_a_base(bench: Bench, optimizer: str) -> None:
    """Every optimizer has groups by stage, and takes stages that have no gradient yet."""
    (penalty,) = in_turn(["kl_to_base", "l2_to_base"], optimizer, 1)
    tuning = ("init_from=embedded", f"penalty={penalty}", f"optimizer={optimizer}")
    stages = ("trainer.finetune=gradual", "trainer.layer_decay=0.5", "trainer.epochs=5")
    bench.train(composed(*tuning, *stages))


def test_micro_batches_change_nothing_that_is_told_of_a_step(bench: Bench) -> None:
    plain = ("model=mlp", "model.width=8", "model.norm=none", "model.dropout=0")  # each record by itself
    whole, parts = (
        bench.train(combined(model=plain, trainer=(f"trainer.micro_batch={size}",))) for size in ("null", "7")
    )
    assert {"watch/act/variance/layer1", "watch/grad/norm/head", "watch/diag/kl_prior", "train/loss"} <= whole.keys()
    # How long a step took is another matter.
    whole, parts = (
        {name: value for name, value in metrics.items() if not name.startswith("system/")} for metrics in (whole, parts)
    )
    assert parts == pytest.approx(whole, rel=1e-4)


ASKED = pytest.mark.parametrize("single_label", [False, True], ids=["multi-label", "single-label"])


def labels(single_label: bool) -> tuple[str, ...]:
    return ("task=superdiagnostic", f"task.single_label={str(single_label).lower()}")


@pytest.mark.parametrize("model", NETWORKS)
@ASKED
def test_network_and_labels(bench: Bench, model: str, single_label: bool) -> None:
    bench.train(combined(model=a_model(model), task=labels(single_label)))


@pytest.mark.parametrize("model", FITTED)
@ASKED
def test_fitted_model_and_labels(bench: Bench, model: str, single_label: bool) -> None:
    more = ("data.records=150",)  # leaves of boosted trees have 20 records
    bench.train(combined(model=a_model(model), task=labels(single_label), data=more))


QUANTITY = "task=heart_rate"  # which chooses its loss


@pytest.mark.parametrize("model", options("model"))
def test_model_and_quantity(bench: Bench, model: str) -> None:
    config = combined(model=a_model(model), task=(QUANTITY,), loss=(QUANTITY,))
    refusals = dict.fromkeys(FITTED, "this model is fitted to classes") | dict.fromkeys(ALONG_TIME, OF_WHOLE_RECORDS)
    trains_or_says(bench, config, refusals.get(model))


MASKS = ("task=delineation", "trainer.window=null", "trainer.stride=null")


@pytest.mark.parametrize("model", options("model"))
def test_model_and_masks(bench: Bench, model: str) -> None:
    parts = dict.fromkeys(("task", "loss", "pca", "trainer"), MASKS)
    config = combined(model=a_model(model), **parts)
    trains_or_says(bench, config, None if model in ALONG_TIME else "asks for a value for each sample")


@pytest.mark.parametrize("model", ALONG_TIME)
@ASKED
def test_masks_for_labels_are_refused(bench: Bench, model: str, single_label: bool) -> None:
    config = combined(model=a_model(model), task=labels(single_label))
    trains_or_says(bench, config, OF_WHOLE_RECORDS)


MOVING = {"cutmix", "mixup", "random_crop", "resized_crop", "time_shift", "time_stretch", "views"}


@pytest.mark.parametrize("augment", sorted(set(options("augment")) - {"powerline"}))
def test_augmentation_and_masks(bench: Bench, augment: str) -> None:
    parts = dict.fromkeys(("task", "loss", "pca", "trainer"), MASKS)
    config = combined(model=a_model("unet1d"), augment=(f"augment={augment}",), **parts)
    trains_or_says(bench, config, "the masks would no longer fit the signals" if augment in MOVING else None)


OF_TOKENS = {"cpc", "generator", "masked"}  # tasks that need a network whose last stages run along the time
OF_OTHER_DATA = {"cinc2021", "columns"}  # labels that these records do not have


@pytest.mark.parametrize("task", options("task"))
def test_task(bench: Bench, task: str) -> None:
    choice = (f"task={task}",)
    parts = dict.fromkeys(("task", "loss"), choice)
    if task == "delineation":
        parts = dict.fromkeys(("task", "loss", "pca", "trainer"), MASKS) | {"model": a_model("unet1d")}
    if task in OF_TOKENS:
        parts |= {"model": WITH_BRANCHES, "trainer": ("trainer.window=null", "trainer.stride=null")}
    config = combined(**parts)
    without_teacher = "task.teacher is not set" if task == "distill" else None
    trains_or_says(bench, config, "these data have" if task in OF_OTHER_DATA else without_teacher)


OF_QUANTITIES = {"mse"}
OF_NO_LABELS = {"info_nce", "nt_xent"}
OF_MASKS = {"dice"}
FOR_SEVERAL_LABELS = {"asymmetric"}


@pytest.mark.parametrize("loss", options("loss"))
@ASKED
def test_loss(bench: Bench, loss: str, single_label: bool) -> None:
    refused = loss in OF_QUANTITIES | OF_MASKS | OF_NO_LABELS or (single_label and loss in FOR_SEVERAL_LABELS)
    config = combined(loss=(f"loss={loss}",), task=labels(single_label))
    trains_or_says(bench, config, f"loss={loss}" if refused else None)


@pytest.mark.parametrize("loss", options("loss"))
def test_loss_and_quantity(bench: Bench, loss: str) -> None:
    config = combined(loss=(f"loss={loss}",), task=(QUANTITY,))
    trains_or_says(bench, config, None if loss in OF_QUANTITIES else f"loss={loss}: it is a loss of")


@pytest.mark.parametrize("loss", options("loss"))
def test_loss_and_masks(bench: Bench, loss: str) -> None:
    parts = dict.fromkeys(("task", "pca", "trainer"), MASKS)
    config = combined(model=a_model("unet1d"), loss=(f"loss={loss}",), **parts)
    trains_or_says(bench, config, None if loss in OF_MASKS else "loss")


@pytest.mark.parametrize("augment", options("augment"))
def test_augmentation(bench: Bench, augment: str) -> None:
    if augment == "powerline":  # there are no mains below 50 Hz
        trains_or_says(bench, combined(augment=(f"augment={augment}",)), "data.fs=500")
        return
    # whole records, and a network that reads any length: there are sets that crop
    config = combined(augment=(f"augment={augment}",), trainer=("trainer.window=null",), model=WITH_BRANCHES)
    try:
        bench.train(config)
    except UserError as refusal:  # which tests/commands/test_augment_changes.py expects
        assert "augment.allow_changes=true" in str(refusal)
        config.augment.allow_changes = True
        bench.train(config)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=conv_attention", "model.drop_path=-1"), "no network for 250 samples"),
        (("model=conv_attention", "model.window=1e-9"), "no network for 250 samples"),
        (("model=conv_attention", "model.depth=-1"), "model.depth=-1"),
        (("model=conv_attention", "model.depth=1000000000"), "model.depth=1000000000"),
        (("model=lstm", "model.layers=1000000000"), "model.layers=1000000000"),
        (("model=mlp", "model.width=1000000000"), "width=1000000000.* weights, and a training needs"),
        (("model=mlp", f"model.width={10**30}"), "model.width=10+: expected a whole number, and one of at most 64"),
        (
            ("model=logistic", "trainer.window=10", "optimizer=library", "optimizer.name=soap"),
            "name=soap: keeps .* MiB",
        ),
        (("model=forest", "model.trees=0"), "model.trees=0"),
        (("model=forest", "model.trees=1000000000"), "model.trees=1000000000"),
        (("model=forest", "model.features_per_split=1.5"), "model.features_per_split=1.5"),
        (("model=decision_tree", "model.depth=-1"), "model.depth=-1"),
        (("model=decision_tree", "model.min_leaf=0"), "model.min_leaf=0"),
        (("model=gradient_boosting", "model.lr=0"), "model.lr=0"),
        (("model=gradient_boosting", "model.features_per_split=0"), "model.features_per_split=0"),
        (("model=gradient_boosting", "model.rounds=1000000000"), "model.rounds=1000000000"),
        (("model=mlp", "init=xavier", "init.gain=1e300"), "init.gain"),
        (("model=xresnet1d18", "init=pca_patches", "init.floor=1e300"), "init.floor"),
    ],
)
def test_a_model_that_cannot_be_made_of_its_options_is_refused(
    bench: Bench, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        bench.train(composed(*overrides))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ("augment=random_crop", "model=logistic", "augment.transforms.random_crop.seconds=1"),
            "250 samples and got 100",
        ),
        (("augment=random_crop", "augment.transforms.random_crop.seconds=1e-9"), "random_crop .* leaves no signal"),
        (
            ("augment=time_shift", "augment.transforms.time_shift.seconds=1e300"),
            "time_shift.seconds=1e",
        ),
        (("augment=noise", "augment.transforms.motion.leads=[]"), r"transforms.motion \(.*leads=\[\]"),
        (("augment=amplitude", "augment.transforms.amplitude_scale.spread=1e5"), "amplitude_scale .* is not finite"),
        (("augment=default", "augment.transforms.lead_dropout.probability=1"), "lead_dropout .* leaves no signal"),
        (("augment=time_mask", "augment.transforms.time_mask.seconds=1e6"), "time_mask .* leaves no signal"),
        (("augment=resized_crop", "augment.transforms.resized_crop.max_cut=1"), "max_cut=1: expected a share"),
        (("augment=randaugment", "augment.transforms.randaugment.n=1000000000"), "n=1000000000"),
    ],
)
def test_an_augmentation_that_cannot_be_trained_with_is_refused_before_training(
    bench: Bench, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        bench.assembled(composed(*overrides, "augment.allow_changes=true"))


OF_EVERY_LAYER = ("he", "orthogonal", "xavier")  # each fills any matrix with random numbers, of another scale


@pytest.mark.parametrize("pca", options("pca"))
@pytest.mark.parametrize("init", [init for init in options("init") if init not in OF_EVERY_LAYER[1:]])
def test_pca_and_initialization(bench: Bench, pca: str, init: str) -> None:
    config = combined(pca=(f"pca={pca}",), init=(f"init={init}",), model=WITH_BRANCHES)
    bench.train(config)


WITHOUT_BRANCHES = ("bilstm", "fcn_wang", "logistic", "lstm", "mlp")
WITHOUT_CONVOLUTION = ("bilstm", "logistic", "lstm", "mlp", "s4d", "vit1d")


def initializations(model: str) -> list[str]:
    """The options for a network, but one of those that fill any matrix: the next network has another."""
    one = OF_EVERY_LAYER[NETWORKS.index(model) % len(OF_EVERY_LAYER)]
    return [init for init in options("init") if init == one or init not in OF_EVERY_LAYER]


@pytest.mark.parametrize(("model", "init"), [(model, init) for model in NETWORKS for init in initializations(model)])
def test_model_and_initialization(bench: Bench, model: str, init: str) -> None:
    expected = {"zero_residual": WITHOUT_BRANCHES, "pca_patches": WITHOUT_CONVOLUTION}.get(init, ())
    config = combined(model=a_model(model), init=(f"init={init}",))
    trains_or_says(bench, config, "init" if model in expected else None)
