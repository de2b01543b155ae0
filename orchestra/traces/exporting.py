"""Exporting a run's spans while it goes on, without loading what export needs where none is wanted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from orchestra.traces.export_settings import full_url

if TYPE_CHECKING:
    from orchestra.traces.otlp import Exported, Exporter


@asynccontextmanager
async def exporting(
    run_id: str, url: str | None, told: "Callable[[Exported], None] | None" = None
) -> "AsyncIterator[Exporter | None]":
    """What a tracer hands its spans to; closed at the end, and then `told` is what became of them.

    Args:
        url: of the collector; `None` exports nothing.
        told: `None` tells nobody.

    Raises:
        InputError: `url` is no HTTP address.
        MissingExtra: the extra `otlp` is not installed.
    """
    if url is None:
        yield None
        return
    exporter: Exporter = import_module("orchestra.traces.otlp").Exporter(run_id, full_url(url))
    try:
        yield exporter
    finally:
        exported = await asyncio.to_thread(exporter.close)
        if told is not None:
            told(exported)
