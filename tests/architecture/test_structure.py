"""The folder list is the ontology, and the tests mirror it."""

import re

VAGUE = {"utils", "helpers", "common", "misc", "base", "core", "manager"}
NOT_MIRRORS = {"architecture", "examples", "golden", "kills", "live"}
"""Folders of `tests` that mirror no package."""


def test_no_module_has_a_name_that_says_nothing(all_sources):
    assert [source.where for source in all_sources if VAGUE & set(source.dotted.split("."))] == []


def test_tests_are_no_package(root):
    assert [path.relative_to(root).as_posix() for path in root.glob("tests/**/__init__.py")] == []


def test_every_folder_of_tests_mirrors_a_package(root):
    folders = {path.parent.relative_to(root / "tests") for path in root.glob("tests/**/test_*.py")}
    strangers = [
        folder.as_posix()
        for folder in sorted(folders)
        if folder.parts and folder.parts[0] not in NOT_MIRRORS and not (root / folder).is_dir()
    ]
    assert strangers == []


def test_every_package_has_tests(root, sources):
    packages = {source.path.parent.relative_to(root) for source in sources if source.path.name == "__init__.py"}
    bare = [
        folder.as_posix()
        for folder in sorted(packages)
        if not any((root / "tests" / folder).glob("test_*.py"))
        and not any((root / "tests" / folder.parent).glob("test_*.py"))
    ]
    assert bare == []


def test_a_test_s_name_is_a_sentence(all_sources):
    short = [
        f"{source.where}: {name}"
        for source in all_sources
        if source.where.startswith("tests/")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", source.text, re.MULTILINE)
        if name.count("_") < 3
    ]
    assert short == []


def test_every_module_says_why_it_exists(sources):
    assert [source.where for source in sources if not source.docstring] == []
