"""The shape of the package: who may import whom, how long files are, how many parameters functions take."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unlearn"

ALLOWED = {
    "runtime": (),
    "recipe": ("runtime",),
    "data": ("runtime", "recipe"),
    "models": ("data", "runtime", "recipe"),
    "training": ("models", "data", "runtime", "recipe"),
    "score": ("models", "data", "runtime"),
    "metrics": ("score.table", "data", "runtime"),
    "families": ("training", "models", "data", "runtime", "recipe"),
    "methods": ("training", "models", "data", "runtime", "recipe"),
    "localize": ("training", "score", "metrics.statistics", "models", "data", "runtime", "recipe"),
    "attacks.items": ("data", "runtime"),
    "attacks.base": ("attacks.items", "score", "models", "data", "runtime"),
    **{
        f"attacks.{family}": (
            *("attacks.base", "attacks.items", "attacks.setting"),
            *("training", "score", "metrics", "models", "data", "runtime", "recipe"),
        )
        for family in ("setting", "prompts", "weights", "optimized", "internals")
    },
    "leak": ("attacks.base", "metrics", "runtime"),
    "report": ("leak", "metrics", "score.table", "runtime"),
    "stages": (
        *("report", "leak", "attacks", "methods", "localize", "metrics", "score", "families", "training", "models"),
        *("data", "recipe", "runtime"),
    ),
    "api": (
        *("cli.arguments", "cli.compose", "stages", "report", "leak", "metrics", "score", "models", "data"),
        "runtime",
    ),
    "cli": ("api", "stages", "report", "runtime"),
    "__main__": ("cli",),
    "": ("api", "models", "runtime"),
}
"""What each package of unlearn may import, beside itself; "" is the package's own __init__.py.

The longest prefix that names a module is its rule. Imports inside functions and for type checking count as well.
"""

KNOWN = {
    ("leak.settings", "attacks.items"),
    ("report.localization", "models.parameters"),
    ("report.overlap", "models.mask"),
    ("report.recovered", "attacks.base"),
}
"""Imports against the rules that are on their way out, (from, to): never add one."""

TABLES = {"data/authors_tables.py"}
"""Files of data, that may be longer than others."""

LONGEST_FILE, MOST_PARAMETERS = 300, 7


def name_of(path: Path) -> str:
    """Return the module's name below unlearn, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the modules of unlearn that are imported anywhere below the node."""
    for each in ast.walk(node):
        names: list[str] = []
        if isinstance(each, ast.Import):
            names = [alias.name for alias in each.names]
        elif isinstance(each, ast.ImportFrom):
            assert not each.level, "imports are absolute"
            names = [f"{each.module}.{alias.name}" for alias in each.names]
        for name in names:
            top, _, below = name.partition(".")
            if top == "unlearn":
                while below not in sources():
                    below = below.rpartition(".")[0]
                yield below


@cache
def graph() -> dict[str, set[str]]:
    return {name: set(imports(tree)) for name, tree in sources().items()}


def within(module: str, prefix: str) -> bool:
    return module == prefix or (prefix != "" and module.startswith(f"{prefix}."))


def rule_of(module: str) -> str | None:
    return max((prefix for prefix in ALLOWED if within(module, prefix)), key=len, default=None)


def test_every_module_has_a_rule() -> None:
    assert {module for module in sources() if rule_of(module) is None} <= {"attacks"}
    assert not graph()["attacks"]


def test_no_module_imports_what_it_may_not_know() -> None:
    broken = {
        (module, imported)
        for module, found in graph().items()
        for rule in [rule_of(module)]
        if rule is not None
        for imported in found
        if not within(imported, rule) and not any(within(imported, allowed) for allowed in ALLOWED[rule])
    }
    assert broken <= KNOWN


def test_methods_and_localizers_are_found_by_no_other_part() -> None:
    """Only the stages hold components of every kind; they themselves are imported by the command line alone."""
    for package, importers in {
        "methods": ("methods", "stages"),
        "localize": ("localize", "stages"),
        "stages": ("stages", "api", "cli"),
        "cli": ("cli", "api", "__main__"),
    }.items():
        users = {(m, i) for m, found in graph().items() for i in found if within(i, package)} - KNOWN
        assert all(any(within(user, importer) for importer in importers) for user, _ in users), package


def test_there_is_no_circle() -> None:
    """Of imports of any kind: at the top of a module, inside a function, for types."""
    remaining = {module: set(found) - {module} for module, found in graph().items()}
    while free := [module for module, found in remaining.items() if not found & remaining.keys()]:
        for module in free:
            del remaining[module]
    while unused := remaining.keys() - set().union(*remaining.values()):  # they only lead to a circle
        for module in unused:
            del remaining[module]
    assert not remaining


@pytest.mark.parametrize("module", ["metrics", "leak", "report"])
def test_what_reads_tables_needs_no_torch(module: str) -> None:
    for name, tree in sources().items():
        if within(name, module):
            for node in ast.walk(tree):
                found = [node.module] if isinstance(node, ast.ImportFrom) else []
                found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not {str(each).partition(".")[0] for each in found} & {"torch", "transformers"}, name


def test_files_are_read_in_one_sitting() -> None:
    lines = {str(path.relative_to(PACKAGE)): path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    assert {path for path, count in lines.items() if count > LONGEST_FILE} <= TABLES


def test_functions_take_few_parameters() -> None:
    many = []
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([argument for argument in named if argument.arg not in ("self", "cls")]) > MOST_PARAMETERS:
                    many.append(f"{name}.{node.name}")
    assert not many
