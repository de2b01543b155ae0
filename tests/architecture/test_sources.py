"""An algorithm says where it comes from, and everything in which it differs."""

import ast

PLUMBING = {
    "__init__.py": "names",
    "assembly.py": "turns a set of components into a graph",
    "book.py": "writes down what was tried",
    "composers.py": "ties the algorithms to the runtime",
    "selection.py": "what the exact solvers take and give",
    "similarity.py": "picks one of two similarities by what is installed",
    "skills.py": "asks tasks or a model for labels",
}
"""Modules of `composers/knapsack` that hold no published algorithm, and what they do instead."""


def test_every_algorithm_states_source_and_deviation(sources):
    silent = [
        source.where
        for source in sources
        if source.where.startswith("composers/knapsack/") and source.path.name not in PLUMBING
        if not states_both(source)
    ]
    assert silent == []


def test_a_source_is_never_given_without_its_deviations(sources):
    half = [
        source.where
        for source in sources
        if ("Source:" in all_docstrings(source)) != ("Deviation:" in all_docstrings(source))
    ]
    assert half == []


def test_the_list_of_plumbing_names_files_that_exist(root):
    assert [name for name in PLUMBING if not (root / "composers/knapsack" / name).is_file()] == []


def states_both(source):
    text = all_docstrings(source)
    return "Source:" in text and "Deviation:" in text


def all_docstrings(source):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(source.tree) if isinstance(node, kinds))
