"""What an import may cost: each heavy library has its doors, and importing a package walks through none of them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

DOORS = {
    "litellm": ("orchestra/models/litellm.py",),
    "vllm": (),
    "langgraph": (
        "orchestra/execution/embedding.py",
        "orchestra/execution/langgraph.py",
        "orchestra/execution/checkpoints.py",
    ),
    "langsmith": ("orchestra/execution/langgraph.py",),
    "mcp": ("orchestra/agents/mcp.py", "orchestra/execution/mcp.py"),
    "sqlalchemy": ("orchestra/traces/store/",),
    "psycopg": ("orchestra/traces/store/",),
    "pyarrow": ("orchestra/traces/parquet.py",),
    "httpx": ("orchestra/models/vllm_http.py", "orchestra/testing/", "orchestra/proxy/"),
    "uvicorn": ("orchestra/proxy/server.py",),
    "google.protobuf": ("orchestra/traces/importing_otlp.py",),
    "networkx": ("graphs/", "orchestra/execution/foreign.py"),
    "opentelemetry.sdk": ("orchestra/traces/",),
    "opentelemetry.exporter": ("orchestra/traces/",),
    "torch": ("orchestra/models/local/", "training/adapters/", "training/losses/", "training/trainers/"),
    "transformers": (
        "orchestra/models/local/",
        "composers/knapsack/embeddings.py",
        "training/adapters/",
        "training/losses/",
        "training/trainers/",
    ),
    "peft": ("training/adapters/",),
    "tensorboard": ("training/trainers/tensorboard.py",),
    "pyspiel": ("orchestra/environments/games/",),
    "reasoning_gym": ("orchestra/environments/reasoning.py",),
    "gguf": ("orchestra/models/local/",),
    "accelerate": ("orchestra/models/local/", "training/trainers/processes.py"),
    "ortools": ("composers/knapsack/offline.py",),
    "scipy": ("composers/knapsack/offline.py",),
    "sentence_transformers": ("composers/knapsack/embeddings.py",),
    "bm25s": ("composers/knapsack/bm25.py",),
    "matplotlib": ("graphs/drawing/figure.py", "orchestra/evaluation/pictures.py", "training/trainers/curves.py"),
}
"""Heavy library -> the modules and folders that may import it: at their top, or inside a function."""

_IMPORTING = ("import_module(", "importlib.import_module(")

NEVER = {"graphs/model.py"}
"""Modules that stay light whatever folder they lie in."""

HEAVY = set(DOORS)


def _packages():
    found = (
        path.parent
        for package in ("graphs", "orchestra", "training", "composers")
        for path in ROOT.glob(f"{package}/**/__init__.py")
    )
    names = sorted(folder.relative_to(ROOT).as_posix() for folder in found)
    return [name.replace("/", ".") for name in names if f"{name}/" not in DOORS["torch"]]


def _commands():
    return [f"orchestra.cli.{path.stem}" for path in sorted(ROOT.glob("orchestra/cli/*.py")) if path.stem != "__init__"]


def loaded_after(statement):
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", [*_packages(), *_commands(), "composers.cli"])
def test_importing_a_package_or_a_command_loads_nothing_heavy(name):
    assert loaded_after(f"import {name}") & HEAVY == set()


def test_graphs_and_orchestra_load_not_even_pydantic():
    assert {"pydantic", "numpy", "yaml"} & loaded_after(
        "import graphs, orchestra, orchestra.cli, orchestra.ledger"
    ) == set()


def test_litellm_is_told_not_to_download_before_it_is_imported():
    code = "import sys, orchestra.models.litellm, os; print(os.environ['LITELLM_LOCAL_MODEL_COST_MAP'])"
    tree = ast.parse((ROOT / "orchestra/models/litellm.py").read_text(encoding="utf-8"))
    lines = [ast.unparse(node) for node in tree.body]
    told = next(at for at, line in enumerate(lines) if "LITELLM_LOCAL_MODEL_COST_MAP" in line)
    imported = next(at for at, line in enumerate(lines) if "import_module('litellm')" in line)
    assert told < imported, code


def test_a_heavy_library_is_imported_only_by_its_doors(sources):
    strangers = [
        f"{source.where}:{line} imports {library}"
        for source in sources
        for name, line in imports(source.tree)
        for library in [heavy(name)]
        if library and (source.where in NEVER or not source.where.startswith(DOORS[library] or ("nowhere",)))
    ]
    assert strangers == []


def test_packages_and_commands_reach_what_is_heavy_by_name_alone(sources):
    """What imports a door at its top is heavy too; no `__init__` and no command may be."""
    loaded = {source.dotted: {name for name, _ in imports(source.tree, top_only=True)} for source in sources}
    behind = {name for name, names in loaded.items() if any(heavy(library) for library in names)}
    while more := {name for name, names in loaded.items() if names & behind} - behind:
        behind |= more
    light = {
        source.dotted for source in sources if source.path.name == "__init__.py" or "cli" in source.dotted.split(".")
    }
    assert sorted(light & behind) == []


def test_randomness_and_mocks_come_in_as_arguments_and_doubles(all_sources):
    mocks = [
        f"{source.where}:{line}"
        for source in all_sources
        for name, line in imports(source.tree)
        if name.startswith(("unittest.mock", "mock", "pytest_mock"))
    ]
    assert mocks == []


def heavy(name):
    """The heavy library that importing `name` loads, if any."""
    return next((library for library in DOORS if name == library or name.startswith(f"{library}.")), None)


def imports(tree, *, top_only=False):
    """`(module, line)` of every import, those for the type checker alone left out."""
    for node in _statements(tree, top_only):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node).startswith(_IMPORTING):
            yield from ((str(name.value), node.lineno) for name in node.args[:1] if isinstance(name, ast.Constant))


def _statements(node, top_only):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _statements(child, top_only)
