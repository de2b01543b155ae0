import subprocess
import sys

import composers.knapsack

HEAVY = {"torch", "transformers", "sentence_transformers", "ortools", "scipy", "bm25s", "litellm", "sqlalchemy"}


def modules_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_one_constraint_needs_no_solver_and_no_embeddings():
    names = "exact, coverage, online, estimates, skills, retrieval, bm25"
    assert modules_after(f"from composers.knapsack import {names}") & HEAVY == set()


def test_the_package_itself_loads_nothing():
    loaded = modules_after("import composers.knapsack")
    assert loaded & (HEAVY | {"numpy", "pydantic"}) == set()


def test_every_exported_name_is_there():
    assert composers.knapsack.__all__ == sorted(composers.knapsack.__all__)
    assert all(getattr(composers.knapsack, name) is not None for name in composers.knapsack.__all__)
    assert not hasattr(composers.knapsack, "nonsense")
