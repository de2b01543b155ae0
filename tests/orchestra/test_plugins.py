import subprocess
import sys

import pytest

import orchestra
from orchestra import plugins
from orchestra.errors import InputError, MissingExtra, UnknownPlugin

GROUP = "orchestra.models"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution with plug-ins of its own, for this test."""

    def installed(distribution, entry_points, **modules):
        place = tmp_path / distribution
        info = place / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        for name, text in modules.items():
            (place / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(place)

    yield installed
    for name in ("stranger_named", "stranger_other", "stranger_extra", "stranger_twin"):
        sys.modules.pop(name, None)


def test_only_the_plug_in_that_is_named_is_imported(install):
    points = f"[{GROUP}]\nparrot = stranger_named:Parrot.open\nother = stranger_other:x\n"
    install("stranger", points, stranger_named="class Parrot:\n    open = 'found'", stranger_other="x = 1")
    assert {"parrot", "other"} <= set(plugins.names(GROUP))
    assert plugins.load(GROUP, "parrot") == "found"
    assert "stranger_other" not in sys.modules


def test_an_unknown_name_is_answered_with_the_closest(install):
    install("stranger", f"[{GROUP}]\nparrot = stranger_named:x\n", stranger_named="x = 1")
    with pytest.raises(UnknownPlugin, match=r"no plug-in named 'parot' in orchestra.models; did you mean 'parrot'"):
        plugins.load(GROUP, "parot")
    with pytest.raises(UnknownPlugin, match="there is none"):
        plugins.load("orchestra.nothing", "parot")


def test_a_module_and_attribute_are_accepted_wherever_a_name_is():
    assert plugins.load(GROUP, "orchestra.plugins:names") is plugins.names
    with pytest.raises(UnknownPlugin, match=r"no 'nams'; did you mean 'names'"):
        plugins.load(GROUP, "orchestra.plugins:nams")
    with pytest.raises(UnknownPlugin, match=r"no module 'orchestra\.nowhere'"):
        plugins.load(GROUP, "orchestra.nowhere:x")


def test_two_distributions_that_claim_one_name_are_both_named(install):
    install("one", f"[{GROUP}]\ntwin = stranger_named:x\n", stranger_named="x = 1")
    install("two", f"[{GROUP}]\ntwin = stranger_twin:x\n", stranger_twin="x = 2")
    with pytest.raises(InputError, match=r"stranger_named:x and by stranger_twin:x"):
        plugins.load(GROUP, "twin")


def test_a_missing_library_names_the_extra_that_brings_it(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)  # as if it were not installed
    install("stranger", f"[{GROUP}]\nextra = stranger_extra:x\n", stranger_extra="import litellm")
    with pytest.raises(MissingExtra, match=r"pip install 'orchestra-mas\[providers\]'"):
        plugins.load(GROUP, "extra")


def test_a_plug_in_that_lacks_a_library_of_its_own_says_so_itself(install):
    install("stranger", f"[{GROUP}]\nextra = stranger_extra:x\n", stranger_extra="import nowhere_at_all")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        plugins.load(GROUP, "extra")


def test_every_public_name_is_found_on_first_use():
    for name in orchestra.__all__:
        assert getattr(orchestra, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = orchestra.no_such_thing


@pytest.mark.parametrize("module", ["orchestra", "orchestra.ledger", "orchestra.plugins", "orchestra.benchmarks"])
def test_importing_the_runtime_loads_nothing_heavy(module):
    code = f"import {module}, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "sqlalchemy", "torch", "networkx", "numpy", "langgraph", "typer"} & set(loaded)
