"""Options of `prepare`, `evaluate` and `probe`."""

from __future__ import annotations

from dataclasses import dataclass

from einthoven.schema.checks import require

MOST_RESAMPLES = 1_000_000
"""Largest number of bootstrap resamples. More take hours and do not change the intervals."""


@dataclass
class PrepareOptions:
    """Options of `einthoven prepare`."""

    doctor: bool
    """Examine every record of the store."""
    strict: bool
    """End with exit code 1 if a record has an error or a warning."""

    def __post_init__(self) -> None:
        """Refuse strict=true without the doctor, because nothing would be checked."""
        require(self.doctor or not self.strict, "strict", self.strict, "false where doctor=false")


@dataclass
class EvaluationOptions:
    """Options of `einthoven evaluate`."""

    run: str
    """Folder of the run."""
    against: str | None
    """Folder of another run on the same records, for a comparison. null: no comparison."""
    mean_with: list[str]
    """Folders of other runs or bundles. If there are some, the mean of their probabilities and those of the run is
    evaluated."""
    weights: list[float]
    """Weight in this mean of the run, and of each other model. Empty: equal weights."""
    labels: str | None
    """Label set that is read from the statements that the run has learned. null: the classes of the run."""
    fit: str
    """Split on which the calibration and the thresholds are fitted: val or test."""
    report: str
    """Split that is reported: the other one of val and test."""
    laplace: bool
    """Average over the weights of the last layer, with their Laplace approximation on the training records."""
    resamples: int
    """Number of bootstrap resamples."""
    level: float
    """Nominal coverage of the intervals."""
    interval: str
    """Kind of interval: percentile, as at the end of a training, or bca."""
    small: int
    """A subgroup with fewer patients is marked as small."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for key, value in (("fit", self.fit), ("report", self.report)):
            require(value in ("train", "val", "test"), key, value, "val or test")
        require(
            1 <= self.resamples <= MOST_RESAMPLES,
            "resamples",
            self.resamples,
            f"a number of resamples from 1 to {MOST_RESAMPLES:,}",
        )
        require(all(weight > 0 for weight in self.weights), "weights", self.weights, "numbers above 0")
        require(0 < self.level < 1, "level", self.level, "a coverage between 0 and 1")
        require(self.interval in ("bca", "percentile"), "interval", self.interval, "percentile or bca")
        require(self.small >= 0, "small", self.small, "a number of patients, 0 or more")


@dataclass
class ProbeOptions:
    """Options of `einthoven probe`."""

    run: str
    """Folder of the run."""
    report: str
    """Split that is judged: val or test."""
    neighbours: int
    """Number of nearest training records."""
    random: int
    """Number of random encoders."""
    seed: int
    """Seed of all random numbers."""
    resamples: int
    """Number of bootstrap resamples."""
    level: float
    """Nominal coverage of the intervals."""
    device: str
    """auto, cuda, mps or cpu."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.report in ("val", "test"), "report", self.report, "val or test")
        require(self.neighbours >= 1, "neighbours", self.neighbours, "a number of records, 1 or more")
        require(self.random >= 1, "random", self.random, "a number of random encoders, 1 or more")
        require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")
        require(
            1 <= self.resamples <= MOST_RESAMPLES,
            "resamples",
            self.resamples,
            f"a number of resamples from 1 to {MOST_RESAMPLES:,}",
        )
        require(0 < self.level < 1, "level", self.level, "a coverage between 0 and 1")


@dataclass
class OtherFolds:
    """Folds that replace the folds of the run in an evaluation."""

    val: list[int] | None
    """Folds of the split val. null: as in the run."""
    test: list[int] | None
    """Folds of the split test. null: as in the run."""
