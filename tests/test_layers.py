"""Imports go downwards only, and declaring a problem needs neither torch nor a plot."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pinnflow"
# What each folder or module of the package may import, beside itself and `errors`.
BELOW = {
    "errors": set(),
    "declare": set(),
    "compiler": {"declare"},
    "trial": {"declare", "compiler"},
    "sampling": {"declare", "compiler"},
    "methods": {"declare", "compiler", "trial", "sampling"},
    "solution": {"declare", "compiler", "trial", "sampling", "methods"},
}
BELOW["settings"] = set(BELOW)
BELOW["source"] = set(BELOW)
BELOW["compiled"] = {"declare", "compiler", "sampling"}
BELOW["fit"] = set(BELOW)
BELOW["latent"] = {"__init__"}
BELOW["cli"] = set(BELOW) | {"__init__"}
BELOW["__main__"] = {"cli"}
# The one arrow upwards: the body of `Problem.fit`.
ALLOWED = {("declare/problem.py", "fit", "fit")}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path):
    """`(imported module, enclosing function or None)` for every import of the package that runs."""
    found = []

    def visit(node, function):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for other in child.orelse:
                    visit(other, function)
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, function) for alias in child.names if alias.name.split(".")[0] == "pinnflow")
            elif isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "pinnflow":
                for alias in child.names:
                    deeper = f"{child.module}.{alias.name}"
                    target = PACKAGE.parent / Path(*deeper.split("."))
                    is_module = target.with_suffix(".py").exists() or target.is_dir()
                    found.append((deeper if is_module else child.module, function))
            inner = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
            visit(child, inner)

    visit(ast.parse(path.read_text(encoding="utf-8")), None)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downwards(path):
    name = path.relative_to(PACKAGE).as_posix()
    own = name.split("/")[0].removesuffix(".py")
    for module, function in imports(path):
        target = layer(module)
        if own == "__init__" or target in (own, "errors") or (name, function, target) in ALLOWED:
            continue
        assert target in BELOW[own], f"{name} imports {module}: {own} must not know {target}"


def test_modules_import_each_other_without_a_cycle():
    """At module level; an import inside a function runs later and closes no cycle."""
    graph = {}
    for path in modules():
        relative = path.relative_to(PACKAGE.parent).with_suffix("")
        name = ".".join(relative.parts).removesuffix(".__init__")
        graph[name] = {module for module, function in imports(path) if function is None} - {"pinnflow"}
    done, doing = set(), []

    def walk(module):
        if module in done:
            return
        assert module not in doing, f"cycle: {' -> '.join([*doing[doing.index(module) :], module])}"
        doing.append(module)
        for target in sorted(graph.get(module, ())):
            walk(target)
        doing.pop()
        done.add(module)

    for module in sorted(graph):
        walk(module)


@pytest.mark.parametrize("module", ["pinnflow", "pdes", "pinnflow.declare.problem", "pinnflow.declare.check"])
def test_declaring_loads_no_torch(module):
    program = (
        f"import sys, {module}\n"
        "from pinnflow import Problem, coordinates, field\n"
        "heavy = {'torch', 'matplotlib', 'h5py', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_no_module_hides_a_public_name():
    """Every submodule is imported; then every public name is still what it is meant to be."""
    import pinnflow

    for module in pkgutil.walk_packages(pinnflow.__path__, "pinnflow."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in pinnflow.__all__:
        assert callable(getattr(pinnflow, name)), name


def test_public_names_are_listed_once_and_sorted_by_home():
    import pinnflow

    assert sorted(pinnflow.__all__) == sorted(pinnflow._HOME_OF)
    assert set(pinnflow.__all__) <= set(dir(pinnflow))


def test_unknown_public_name_lists_the_known_ones():
    import pinnflow

    with pytest.raises(AttributeError, match="module `pinnflow` has no attribute `solve`; public names: Ball, Bounds"):
        pinnflow.solve
