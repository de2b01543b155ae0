"""The repository's own source, parsed once for every rule about it."""

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("graphs", "orchestra", "training", "composers")
SKIPPED = {".venv", "build", "dist", "__pycache__", "node_modules"}


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path

    @property
    def where(self) -> str:
        """Its path from the root, with slashes."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def dotted(self) -> str:
        """The name it is imported by."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""


def _python_files(folder: Path) -> list[Source]:
    found = (path for path in sorted(folder.rglob("*.py")) if not SKIPPED & set(path.relative_to(ROOT).parts))
    return [Source(path) for path in found]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every module of the packages that are installed."""
    return [source for package in PACKAGES for source in _python_files(ROOT / package)]


@pytest.fixture(scope="session")
def all_sources(sources) -> list[Source]:
    """Those, the tests, the examples and the benchmarks."""
    more = [source for folder in ("tests", "examples", "benchmarks") for source in _python_files(ROOT / folder)]
    return [*sources, *more]
