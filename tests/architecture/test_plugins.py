"""Plug-ins: one name, one plug-in, and what an entry point names is there."""

import ast
import re
import tomllib
from collections import Counter
from importlib.metadata import entry_points

import pytest


@pytest.fixture(scope="module")
def declared(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]


def test_names_are_unique_in_every_group(declared):
    for group in declared:
        counts = Counter(point.name for point in entry_points(group=group))
        assert [name for name, count in counts.items() if count > 1] == [], group


def test_what_is_declared_is_what_is_installed(declared):
    installed = {
        group: {p.name: p.value for p in entry_points(group=group) if p.name in declared[group]} for group in declared
    }
    assert installed == declared


def test_names_are_kebab_case(declared):
    names = [name for group in declared.values() for name in group]
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)] == []


def test_every_entry_point_names_something_that_exists(root, declared):
    dead = [value for group in declared.values() for value in group.values() if not defines(root, *value.split(":"))]
    assert dead == []


def defines(root, module, attribute):
    stem = root.joinpath(*module.split("."))
    file = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {getattr(node, "name", None) for node in tree.body}
    names |= {name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}  # lazily exported names
    return attribute in names | strings
