"""A path or a dotted name in backticks exists: in the README and its neighbours, and in every docstring."""

import ast
import re
import tomllib

import pytest

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.\-]+(/[\w.\-]+)+/?|[\w\-]+\.(py|md|toml|txt)")
DOTTED = re.compile(r"(graphs|orchestra|composers)(\.\w+)+")


@pytest.fixture(scope="module")
def prose(root, sources):
    """`(where, text)` of every page and docstring; fenced code in a page is code, not prose."""
    pages = [(page, (root / page).read_text(encoding="utf-8")) for page in PAGES if (root / page).is_file()]
    found = [(page, re.sub(r"```.*?```", "", text, flags=re.DOTALL)) for page, text in pages]
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                found.append((f"{source.where} {getattr(node, 'name', '')}", text))
    return found


@pytest.fixture(scope="module")
def tops(root):
    return {path.name for path in root.iterdir()} - {".git"}


def test_every_path_in_prose_exists(root, prose, tops):
    dead = [
        f"{where}: {path}" for where, path in quoted(prose, PATH) if looks_ours(path, tops) and not exists(root, path)
    ]
    assert dead == []


def test_every_dotted_name_in_prose_exists(root, prose):
    names = words_with_dots(root)
    dead = [
        f"{where}: {name}" for where, name in quoted(prose, DOTTED) if name not in names and not defined(root, name)
    ]
    assert dead == []


def quoted(prose, pattern):
    return [
        (where, text)
        for where, page in prose
        for text in (quote.strip().removesuffix("()") for quote in QUOTED.findall(page))
        if pattern.fullmatch(text)
    ]


def looks_ours(path, tops):
    return path.partition("/")[0] in tops or ("/" not in path and path.endswith((".md", ".toml")))


def exists(root, path):
    return (root / path).exists()


def defined(root, dotted):
    """Whether `dotted` is a module, or a name some module defines at its top (or in a class there)."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        stem = root.joinpath(*parts[:cut])
        file = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
        if file.is_file() or stem.is_dir():
            rest = parts[cut:]
            return not rest or (file.is_file() and mentions(file, rest))
    return False


def mentions(file, names):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                known.add(node.name)
            case ast.Name(id=name, ctx=ast.Store()):
                known.add(name)
            case ast.alias():
                known.add(node.asname or node.name)
            case ast.Constant(value=str(text)):
                known.add(text)  # lazily exported names
    return all(name in known for name in names)


def words_with_dots(root):
    """Names with dots that are no Python: entry point groups, and attributes of spans."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = set(project["entry-points"]) | {"orchestra.environments", "orchestra.benchmarks", "orchestra.tools"}
    table = (root / "orchestra/traces/names.py").read_text(encoding="utf-8")
    return groups | set(re.findall(r'"(orchestra\.[\w.]+)"', table))
