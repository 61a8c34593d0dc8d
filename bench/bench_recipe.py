"""The default recipe over three seeds, beside what it has to beat: the table of the README.

    python bench/bench_recipe.py [PTBXL_ROOT]

On the embedded data: the default model, the linear baseline, and labels dealt at random (ten epochs). With PTBXL_ROOT:
the default model on folds 1-8, from generated ECGs and from fresh weights, judged on fold 9 by the weights of the last
epoch. Runs are written to MLflow; each sweep ends with its table of mean ± sd. About 50 minutes on two cores.
"""

from __future__ import annotations

import sys

from einthoven import cli

SEEDS = "seed=0,1,2"


def main(root: str | None) -> None:
    cli.main(["train", "-m", SEEDS])
    cli.main(["train", "-m", "model=logistic", SEEDS])
    cli.main(["train", "-m", "task.shuffle_labels=true", "trainer.epochs=10", SEEDS])
    if root is not None:
        for start in ("auto", "null"):
            cli.main(["train", "-m", "data=ptbxl", f"data.root={root}", f"init_from={start}", SEEDS])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
