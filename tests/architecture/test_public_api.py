"""What a package offers is what its `__all__` says: sorted, there, and all of it."""

import ast
import importlib

import pytest


@pytest.fixture(scope="module")
def packages(sources):
    return [source for source in sources if source.path.name == "__init__.py"]


def test_every_package_says_what_it_offers(packages):
    assert [source.where for source in packages if exported(source) is None] == []


def test_what_is_offered_is_sorted_and_named_once(packages):
    lists = {source.where: exported(source) or [] for source in packages}
    assert {
        where: names for where, names in lists.items() if names != sorted(set(names), key=constants_types_functions)
    } == {}


@pytest.mark.filterwarnings("default")  # extras warn when they are imported
def test_everything_offered_is_there(packages):
    missing = [
        f"{source.dotted}.{name}"
        for source in packages
        for name in exported(source) or ()
        if not hasattr(importlib.import_module(source.dotted), name)
    ]
    assert missing == []


def test_whatever_a_package_takes_from_its_own_modules_it_offers(packages):
    hidden = [
        f"{source.where}: {alias.asname or alias.name}"
        for source in packages
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{source.dotted}.")
        if is_outside_functions(node, source.tree)
        for alias in node.names
        if not (alias.asname or alias.name).startswith("_")
        and (alias.asname or alias.name) not in (exported(source) or ())
    ]
    assert hidden == []


def exported(source):
    for node in source.tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return ast.literal_eval(node.value)
    return None


def constants_types_functions(name):
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def is_outside_functions(wanted, tree):
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return all(wanted is not inner for function in functions for inner in ast.walk(function))
