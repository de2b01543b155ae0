import asyncio
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from orchestra.execution import Runtime, Settings
from orchestra.testing import ScriptedModel
from orchestra.traces.store import Store


class StagedModel(ScriptedModel):
    """Holds a reply back until the stage of whoever asks is opened; an agent's system prompt says who it is."""

    def __init__(self, replies=lambda request: role_of(request), **settings):
        super().__init__(replies, **settings)
        self.begun: list[str] = []
        self._stages: dict[str, asyncio.Event] = {}
        self._begins: dict[str, asyncio.Event] = {}

    def hold(self, *roles: str) -> None:
        """Hold the replies to these back."""
        self._stages.update({role: asyncio.Event() for role in roles})

    def open(self, role: str) -> None:
        """Let the reply to this one out."""
        self._stages[role].set()

    async def asked_by(self, role: str) -> None:
        """Wait until this one asks."""
        await asyncio.wait_for(self._begins.setdefault(role, asyncio.Event()).wait(), 20)

    async def stream(self, request):
        role = role_of(request)
        self.begun.append(role)
        self._begins.setdefault(role, asyncio.Event()).set()
        events = super().stream(request)
        self.requests.append(request)  # also where it is held back
        self.running += 1
        try:
            if role in self._stages:
                await self._stages[role].wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self.requests.remove(request)
        async with aclosing(events):
            async for event in events:
                yield event


def role_of(request) -> str:
    """The system prompt of a request, which here is its agent's id."""
    return next((message.content for message in request.messages if message.role == "system"), "")


@pytest.fixture
def staged() -> StagedModel:
    """A model whose replies can be held back."""
    return StagedModel()


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
    async def opening(
        answer=lambda request: "ok", *, cap_nano=None, resume=None, use_cache=False, answers=(), settings=None, **model
    ):
        scripted = answer if isinstance(answer, ScriptedModel) else ScriptedModel(answer, **model)
        with Store.open(tmp_path / "store.sqlite") as store:
            async with Runtime.opened(
                "run",
                store=store,
                settings=Settings(model=scripted.name, use_cache=use_cache, **settings or {}),
                folder=tools,
                cap_nano=cap_nano,
                models={scripted.name: scripted},
                resume=resume,
                answers=answers,
            ) as runtime:
                yield runtime, scripted

    return opening
