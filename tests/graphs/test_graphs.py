import doctest
import importlib
import subprocess
import sys

import pytest

import graphs

HEAVY = {"matplotlib", "networkx", "numpy", "pydantic", "yaml"}


def modules_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in output.split()}


def test_importing_the_package_loads_nothing_heavy():
    assert modules_after("import graphs") & HEAVY == set()


@pytest.mark.parametrize("module", ["schedule", "validation", "edits", "motifs", "model"])
def test_what_runs_a_team_loads_pydantic_alone(module):
    assert modules_after(f"import graphs.{module}") & HEAVY == {"pydantic"}


@pytest.mark.parametrize("module", ["drawing", "serialisation", "identity", "documents"])
def test_reading_and_drawing_as_text_needs_no_plotting_and_no_networkx(module):
    assert modules_after(f"import graphs.{module}") & {"matplotlib", "networkx", "numpy"} == set()


def test_exported_names_are_sorted_and_exist():
    assert sorted(graphs.__all__, key=lambda name: (not name.isupper(), name)) == graphs.__all__
    assert all(getattr(graphs, name) is not None for name in graphs.__all__)
    assert dir(graphs) == sorted(graphs.__all__)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'graphs' has no attribute 'Graph'"):
        graphs.Graph  # noqa: B018


@pytest.mark.parametrize("module", ["errors", "schedule"])
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(f"graphs.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
