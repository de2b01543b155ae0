from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestra.execution import Runtime, Settings
from orchestra.testing import ScriptedModel
from orchestra.traces.store import Store


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with a module of tools."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "office.py").write_text(
        "def shout(text): return text.upper()\n"
        "def silent(text): return None\n"
        "def boom(text): raise ValueError('no licence')\n"
        "def left(text): return 'left'\n"
        "def nowhere(text): return ''\n"
        "def lost(text): return 'the moon'\n"
    )
    return folder


@pytest.fixture
def opened(tmp_path: Path, tools: Path):
    """Opens runs over one store; the model answers by the function given."""

    @asynccontextmanager
    async def opening(answer=lambda request: "ok", *, cap_nano=None, resume=None, use_cache=False, **model):
        scripted = answer if isinstance(answer, ScriptedModel) else ScriptedModel(answer, **model)
        with Store.open(tmp_path / "store.sqlite") as store:
            async with Runtime.opened(
                "run",
                store=store,
                settings=Settings(model=scripted.name, use_cache=use_cache),
                folder=tools,
                cap_nano=cap_nano,
                models={scripted.name: scripted},
                resume=resume,
            ) as runtime:
                yield runtime, scripted

    return opening
