from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.traces.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.sqlite") as opened:
        yield opened
