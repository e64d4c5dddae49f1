"""The picture of the project, as tests: who may import whom, and who owns which library."""

import ast
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {"engine": set(), "manifests": set(), "cluster": {"engine", "manifests"}}
BELOW["jobs"] = {"cluster", "engine", "manifests"}
OWNER = {"omegaconf": "jobs", "ray": "cluster", "torch": "engine", "diffusers": "engine"}
OWNER |= {"deepspeed": "engine", "pyarrow": "manifests", "fsspec": "manifests"}
OWNER |= {"huggingface_hub": "manifests"}


# Longer than a reader can hold in mind at once, and why it is none the less one module.
MOST_LINES = 300
LONG = {"engine/chalk/words.py": "a table of phrasings by thing and language, without a branch"}


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", sorted(BELOW))
def test_imports_point_down_and_each_package_owns_its_libraries(package):
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules, f"{package}/ has no modules"
    for path in modules:
        for name in imports(path):
            allowed = BELOW[package] | {package}
            assert name not in BELOW or name in allowed, f"{path}: {package} may not import {name}"
            assert OWNER.get(name, package) == package, f"{path}: only {OWNER.get(name)}/ imports {name}"


def test_planning_arithmetic_imports_no_torch():
    for name in ("windows", "timeline", "phases"):
        assert "torch" not in imports(ROOT / "engine" / f"{name}.py"), name


def test_no_module_is_longer_than_a_reader_can_hold_in_mind():
    modules = [path for package in BELOW for path in (ROOT / package).rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    long = {name: n for name, n in lines.items() if n > MOST_LINES}
    assert len(lines) > 200 and long.keys() == LONG.keys(), f"split by subject, or say why not: {long}"


@pytest.mark.parametrize("name", sorted(BELOW))
def test_top_level_name_is_ours_alone(name):
    owners = set(packages_distributions().get(name, ["longtake"]))
    assert owners == {"longtake"}, f"{name!r} is also provided by {owners - {'longtake'}}"
    assert Path(import_module(name).__file__).is_relative_to(ROOT)
