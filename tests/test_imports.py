"""``app → blueprints → services``, one direction, without circles; settings are read in ``app`` alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "services": {
        "app",
        "blueprints",
        "flask",
        "flask_cors",
        "flask_limiter",
        "flask_smorest",
        "marshmallow",
        "webargs",
        "werkzeug",
        "gunicorn",
    },
    "blueprints": {"app"},
}
"""Top-level packages that the modules of a layer may not import, type checking included."""


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, level=level):
                assert not level, f"{path}:{node.lineno}: relative import"
                yield node.lineno, module or ""


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_knows_nothing_of_those_above_it(layer: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(layer)
        for line, name in imports(path)
        if name.partition(".")[0] in FORBIDDEN[layer]
    ]
    assert modules(layer)
    assert not found, "\n".join(found)


def test_every_module_of_a_layer_is_in_a_package() -> None:
    for layer in ("app", *FORBIDDEN):
        for path in modules(layer):
            assert (path.parent / "__init__.py").exists(), path


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checking and inside functions count: a circle is one concept in two files."""
    paths = {name_of(path): path for layer in ("app", *FORBIDDEN) for path in modules(layer)}
    graph = {name: {target for _, target in targets(path) if target in paths and target != name} for name, path in paths.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def targets(path: Path) -> Iterator[tuple[int, str]]:
    """The modules that ``path`` names: ``from package import module`` names the package and, where it is one, the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                found = [
                    f"{module}.{alias.name}"
                    for alias in names
                    if (ROOT / f"{module}.{alias.name}".replace(".", "/")).with_suffix(".py").exists()
                ]
                yield from ((node.lineno, name) for name in found or [module])
