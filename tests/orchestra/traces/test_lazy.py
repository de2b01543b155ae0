import subprocess
import sys

import pytest

import orchestra.traces


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("orchestra.traces", {"sqlalchemy", "opentelemetry", "pydantic"}),
        ("orchestra.traces.names", {"sqlalchemy", "opentelemetry", "pydantic"}),
        ("orchestra.traces.records", {"sqlalchemy", "opentelemetry"}),
        ("orchestra.traces.store", {"sqlalchemy", "opentelemetry"}),
        ("orchestra.traces.fold", {"sqlalchemy", "opentelemetry"}),
        ("orchestra.cli.traces", {"sqlalchemy", "opentelemetry", "pydantic", "rich"}),
    ],
)
def test_importing_loads_nothing_heavy(module, absent):
    script = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert absent & set(loaded.split()) == set()


def test_everything_the_package_offers_is_there():
    for name in orchestra.traces.__all__:
        assert getattr(orchestra.traces, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        orchestra.traces.nothing  # noqa: B018
