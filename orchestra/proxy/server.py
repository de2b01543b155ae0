"""The proxy as a server on a port: for tests and programs a context manager, for the command line until it is ended.

The library that serves is uvicorn; it is told to add no headers of its own and to write no log.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from orchestra.errors import InputError
from orchestra.models.serving import record
from orchestra.proxy.keeping import Keeper
from orchestra.proxy.receiving import receivers
from orchestra.proxy.relay import CONNECT_SECONDS, IDLE_SECONDS, Relay, Upstream
from orchestra.traces.importing import Importer, fresh_run_id
from orchestra.traces.redaction import Redactor
from orchestra.traces.store import Store, StoreFailed

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    url: str
    """What a client takes as the base address of the API, such as `http://127.0.0.1:8100/v1`."""
    otlp_url: str
    """What an exporter takes as its endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`), such as `http://127.0.0.1:8100`."""
    keeper: Keeper
    """Writes the calls down."""
    importer: Importer
    """Takes the spans that applications send; `importer.run_id` is their run, which begins with the first one."""

    @property
    def run_id(self) -> str:
        """The run its calls are kept as; it begins with the first one."""
        return self.keeper.run_id


@asynccontextmanager
async def proxying(
    upstream: str,
    *,
    store: Store | str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    redact: Redactor | None = None,
    processed_logprobs: bool | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy in front of `upstream`, inside the block.

    Args:
        upstream: address of an OpenAI-compatible server, such as `http://127.0.0.1:8000` or `https://host/v1`.
        store: an open one, or what `Store.open` takes; `None` is the user's own.
        host: to listen at.
        port: to listen at; 0 takes a free one.
        redact: shown every text before it reaches the store; where it changes one, token ids are not kept.
        processed_logprobs: whether the server reports log-probabilities after temperature and truncation; `None` takes
            the word of `orchestra serve`, else no. Others are kept only where a request makes them the same.

    Raises:
        InputError: when `upstream` is no address, or the port is taken.
    """
    target = _checked(upstream)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(closing(_listen(host, port)))
        opened = store if isinstance(store, Store) else stack.enter_context(Store.open(store))
        keeper = Keeper(opened, fresh_run_id(), target.host, redact, lambda: _processes(target, processed_logprobs))
        importer = Importer(opened, "orchestra proxy", redact=redact)
        async with _client(target) as client:
            relay = Relay(target, keeper, client, receivers(importer, opened))
            server = _Server(_config(relay))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                while not server.started and not serving.done():
                    await asyncio.sleep(0.005)
                root = f"http://{_shown_host(host)}:{listening.getsockname()[1]}"
                yield Proxy(f"{root}/v1", root, keeper, importer)
            finally:
                server.should_exit = True
                server.force_exit = True  # what is still being answered is ended: its client is told by the cut
                await serving
        with contextlib.suppress(StoreFailed):  # what was lost has been said and counted
            await opened.flush()


async def serve(
    upstream: str,
    *,
    store: str | Path | None = None,
    host: str,
    port: int,
    tell: Callable[[Proxy], None],
    redact: Redactor | None = None,
    processed_logprobs: bool | None = None,
) -> None:
    """Run a proxy until the task is cancelled.

    Args:
        upstream: as for `proxying`.
        store: as for `proxying`.
        host: to listen at.
        port: to listen at.
        tell: given the proxy once it answers.
        redact: as for `proxying`.
        processed_logprobs: as for `proxying`.
    """
    async with proxying(
        upstream, store=store, host=host, port=port, redact=redact, processed_logprobs=processed_logprobs
    ) as proxy:
        tell(proxy)
        await asyncio.Event().wait()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's."""
        yield


def _processes(upstream: Upstream, told: bool | None) -> bool:
    """Whether the server reports log-probabilities after temperature, as told, else as who started it wrote down."""
    if told is not None:
        return told
    url = httpx.URL(upstream.url)
    server = record.found(f"{url.scheme}://{url.netloc.decode()}")
    return server is not None and server.processed_logprobs


def _config(relay: Relay) -> uvicorn.Config:
    return uvicorn.Config(
        relay,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )


def _client(target: Upstream) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=IDLE_SECONDS)
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        limits=limits,
        follow_redirects=False,
        trust_env=target.host[0] not in _LOOPBACK,  # a proxy of the environment never leads to this machine
    )


def _checked(upstream: str) -> Upstream:
    try:
        url = httpx.URL(upstream)
    except httpx.InvalidURL as cause:
        raise InputError(f"upstream {upstream!r} is not an address: {cause}; write http://127.0.0.1:8000") from cause
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"upstream {upstream!r} is not an address; write it like http://127.0.0.1:8000")
    return Upstream(upstream)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small packets at once only on sockets that name their protocol; on others each can wait 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as cause:
        listening.close()
        raise InputError(f"cannot listen at {host}:{port}: {cause.strerror or cause}; try another --port") from cause
    return listening


def _shown_host(host: str) -> str:
    named = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{named}]" if ":" in named else named
