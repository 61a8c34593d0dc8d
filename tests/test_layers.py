"""The import rules of docs/architecture.md, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import einthoven

SRC = Path(einthoven.__file__).parent

# Modules that every package may import.
SHARED = {
    "atomic",
    "command_line",
    "contracts",
    "errors",
    "files",
    "interrupts",
    "machine",
    "safetensors_file",
    "strict_json",
    "trust",
}
ALLOWED = {  # package -> packages of ours that it may import, besides itself and the shared modules
    "functional": set(),
    "data": {"functional"},
    "models": {"functional"},
    "losses": {"functional"},
    "optim": {"functional"},
    "augment": {"functional"},
    "diagnostics": {"functional", "models", "schema"},
    "evaluation": {"functional"},
    "tasks": {"functional", "losses", "evaluation", "models"},
    "training": {"functional"},
    "report": {"functional", "evaluation", "diagnostics"},
    "tracking": set(),
    "predict": {"data", "functional", "models", "evaluation", "tracking"},
    "app": {"data", "predict", "report"},
    "build": set(),
    "schema": {"build"},
    "terminal": {"build", "functional", "data", "evaluation", "predict", "report"},
}
ALLOWED["runs"] = {*ALLOWED} - {"app"}
ALLOWED["sweeps"] = {*ALLOWED["runs"], "runs"}
ALLOWED["commands"] = {*ALLOWED["sweeps"], "sweeps", "app"}
ALLOWED["cli"] = {"commands", "build", "terminal"}
ALLOWED["__main__"] = {"cli"}
PARTS_OF_RUNS = [
    "config",
    "folder",
    "data",
    "base",
    "unrecorded",
    "run",
    "network",
    "results",
    "evaluation",
    "comparison",
]
"""Folders of `runs`, and modules that these need, in the order of imports. Its other modules put them together."""

OUTSIDE = {  # package of others -> packages of ours that may import it
    "mlflow": {"tracking"},
    "matplotlib": {"report"},
    "hydra": {"build", "commands", "runs", "sweeps", "terminal", "tracking"},
    "omegaconf": {"build", "schema", "commands", "runs", "sweeps", "terminal", "tracking"},
    "wfdb": {"data"},
    "pydicom": {"data"},
    "edfio": {"data"},
    "ecgdatakit": {"data"},
    "pandas": {"data"},
    "sklearn": {"evaluation", "models"},
    "skops": {"models"},
    "optuna": {"sweeps"},
    "onnx": {"predict"},
    "onnxscript": {"predict"},
    "starlette": {"app"},
    "uvicorn": {"commands"},
}


def imports(node: ast.AST, *, annotations: bool = True) -> Iterator[str]:
    """Modules that a piece of code imports, with or without those under TYPE_CHECKING, which only annotations use."""
    for child in ast.iter_child_nodes(node):
        if not annotations and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imports(child, annotations=annotations)


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("file", sorted(SRC.rglob("*.py")), ids=lambda file: str(file.relative_to(SRC)))
def test_each_module_imports_only_what_its_package_may(file: Path) -> None:
    own = file.relative_to(SRC).with_suffix("").parts[0]
    tree = ast.parse(file.read_text())
    for module in imports(tree):
        if module.split(".")[0] != "einthoven" or own == "__init__":
            continue
        assert not (own == package_of(module) == "commands"), f"{file.name} imports another verb: {module}"
        allowed = {own, "", "__version__", *SHARED, *ALLOWED.get(own, ())}
        assert package_of(module) in allowed, f"{own} imports {module}"
    for module in imports(tree, annotations=False):
        assert own in OUTSIDE.get(module.split(".")[0], {own}), f"{own} imports {module}"


@pytest.mark.parametrize("file", sorted((SRC / "runs").rglob("*.py")), ids=lambda file: str(file.relative_to(SRC)))
def test_a_part_of_runs_imports_only_earlier_parts(file: Path) -> None:
    own = file.relative_to(SRC / "runs").with_suffix("").parts[0]
    if own not in PARTS_OF_RUNS:
        return
    allowed = PARTS_OF_RUNS[: PARTS_OF_RUNS.index(own) + 1]
    for module in imports(ast.parse(file.read_text())):
        if package_of(module) == "runs":
            assert module.split(".")[2] in allowed, f"runs/{own} imports {module}"


def test_there_is_no_import_cycle() -> None:
    files = {".".join(("einthoven", *file.relative_to(SRC).with_suffix("").parts)): file for file in SRC.rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        # `from package import module` imports a module, `from module import name` the module before the name.
        targets = {
            module if module in files else module.rpartition(".")[0] for module in imports(ast.parse(file.read_text()))
        }
        graph[name] = (targets & files.keys()) - {name}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_every_package_is_listed() -> None:
    packages = {path.stem for path in SRC.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert packages - {"__init__", *SHARED} == set(ALLOWED)


LIGHT_COMMANDS = {  # command -> packages that it may need
    "--help": set(),
    "train optimizr=sgd": {"hydra", "rich"},
    "train optimizer.lrr=1": {"hydra", "rich"},
    "train trainer.epochs=0": {"hydra", "rich"},
    "train --cfg job": {"hydra", "rich"},
    "predict --flag": {"rich", "numpy"},
    "explain a.hea --output a.txt": {"rich", "numpy"},
    "embed a.hea --output a.txt": {"rich", "numpy"},
    "report --flag": set(),
}


@pytest.mark.parametrize("command", LIGHT_COMMANDS)
def test_a_mistake_is_answered_without_the_heavy_packages(command: str, tmp_path: Path) -> None:
    heavy = ["mlflow", "matplotlib", "sklearn", "pandas", "torch", "scipy", "hydra", "rich", "numpy", "wfdb"]
    code = f"""
import sys, einthoven.cli
try:
    einthoven.cli.main({command.split()})
except SystemExit as end:
    assert end.code == 2
print([name for name in {heavy} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(ast.literal_eval(found.stdout.splitlines()[-1])) <= LIGHT_COMMANDS[command]


def test_packages_load_no_pictures_and_no_tracking() -> None:
    code = "import sys, einthoven.data, einthoven.training.loop, einthoven.models.conv_attention, einthoven.tasks"
    check = "print([n for n in ('mlflow', 'matplotlib', 'sklearn', 'pandas', 'hydra', 'wfdb') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
