"""A server from its start to Ctrl-C: what `orchestra serve` does, in one call."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestra.models.calibration import Calibration
from orchestra.models.serving.server import LORA_RANK, Server, serving
from orchestra.models.serving.speed import calibrate


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What to serve, and how."""

    model: str
    adapters: Mapping[str, Path] = field(default_factory=dict)
    port: int = 0
    python: str | None = None
    tool_parser: str | None = None
    lora_rank: int = LORA_RANK
    options: tuple[str, ...] = ()
    calibrate: bool = False
    """Measure its speed before it is handed over."""


async def served_until_told(
    session: Session,
    *,
    tell: Callable[[str], None] = lambda line: None,
    ready: Callable[[Server, Calibration | None], None] = lambda server, speed: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then end the server and everything it started.

    Args:
        session: what to serve.
        tell: hears what is being done while it starts.
        ready: is called once it answers, with its speed if that was measured.

    Raises:
        orchestra.models.serving.server.ServerFailed: it did not start, or ended by itself.
        orchestra.errors.InputError: there is nothing to serve, or nothing to serve it with.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    work = asyncio.ensure_future(_served(session, tell, ready))
    waiting = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
    finally:
        waiting.cancel()
        work.cancel()
        await asyncio.wait({work})
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _served(
    session: Session, tell: Callable[[str], None], ready: Callable[[Server, Calibration | None], None]
) -> None:
    async with serving(
        session.model,
        adapters=session.adapters,
        port=session.port,
        python=session.python,
        tool_parser=session.tool_parser,
        lora_rank=session.lora_rank,
        options=session.options,
        tell=tell,
    ) as server:
        speed = None
        if session.calibrate:
            tell("measuring its speed")
            speed = await asyncio.to_thread(calibrate, server.record)
        ready(server, speed)
        await server.ended()
