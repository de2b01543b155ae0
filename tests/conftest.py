"""What every test runs under: no network beyond loopback, a store of its own, and Hypothesis profiles."""

import ipaddress
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestra.testing.postgres import LocalPostgres

# Tests that are begun in the background inherit it ignored, and would hand it down to the programs they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


EXPORT_SETTINGS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
)
"""Of the shell that tests are started from: they would send the spans of every test to its collector."""


class SocketBlocked(RuntimeError):
    """A test tried to leave this machine; mark it `network` if it must."""


class _Gate:
    """An audit hook, because it sees every library's sockets, C code's too, and replaces nothing."""

    open = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.open or event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            return
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        if event != "socket.getaddrinfo" and not isinstance(address, tuple):
            return  # a Unix socket's path
        if not _is_loopback(host):
            raise SocketBlocked(f"{event} to {host!r}: tests stay on this machine; mark the test `network`")


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


_gate = _Gate()
sys.addaudithook(_gate)

LONGEST = ("tests/training/test_tiny.py", "tests/kills/test_kills.py", "tests/examples/test_lessons.py")
"""Files of minutes: processes that share the tests begin with them, so that none is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    names = tuple(Path(file).as_posix() for file in LONGEST)
    items.sort(key=lambda item: not item.path.as_posix().endswith(names))


@pytest.fixture(autouse=True)
def _stays_on_this_machine(request: pytest.FixtureRequest) -> Iterator[None]:
    _gate.open = request.node.get_closest_marker("network") is not None
    yield
    _gate.open = False


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder of one test; the cache folder, where the weights lie, stays the user's."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    for name in ("ORCHESTRA_STORE", "ORCHESTRA_DEBUG", *EXPORT_SETTINGS):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[LocalPostgres]:
    """One PostgreSQL server for all tests, started by the first that asks; whoever stops it starts it again."""
    with LocalPostgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: LocalPostgres) -> str:
    """An empty place in a PostgreSQL database, for one test."""
    return postgres_server.schema()


_TABLES: dict[str, list[dict[str, object]]] = {}


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Callable[[str, dict[str, object]], None]:
    """Adds a row to the table of that title, which is printed with its count of rows when the tests have ended."""

    def add(title: str, row: dict[str, object]) -> None:
        request.node.user_properties.append(("table", (title, row)))  # reports carry these from wherever tests run

    return add


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the rows of a test that has ended."""
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == "table":
                title, row = value
                _TABLES.setdefault(title, []).append(row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every table that tests filled through the fixture `table`."""
    for title, rows in _TABLES.items():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[str(row.get(name, "")) for name in columns] for row in rows]
        widths = [max(map(len, (name, *texts))) for name, *texts in zip(columns, *cells, strict=True)]
        terminalreporter.section(f"{title}: {len(rows)} rows")
        for line in (columns, *cells):
            texts = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            terminalreporter.write_line("  ".join(texts).rstrip())
