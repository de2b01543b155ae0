"""Reads of the store, asked again while a server is away."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine, Executable, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError

from orchestra.traces.store.writer import StoreFailed

Result = TypeVar("Result")

RETRY_SECONDS = 0.1

_AWAY = frozenset({"OperationalError", "InterfaceError", "AdminShutdown", "CannotConnectNow", "CrashShutdown"})
"""Errors of a server that may come back."""


class Reader:
    """Reads from the database behind `engine`.

    Args:
        engine: an open store's.
        where: names the store in messages.
        patience_seconds: how long a server may be away.
    """

    def __init__(self, engine: Engine, where: str, *, patience_seconds: float) -> None:
        self._engine = engine
        self._where = where
        self._patience = patience_seconds
        self._looking = threading.Lock()
        self._kept: PoolProxiedConnection | None = None

    def rows(self, statement: Executable) -> list[Sequence[Any]]:
        """All rows of `statement`.

        Raises:
            StoreFailed: when they cannot be read.
        """

        def read() -> list[Sequence[Any]]:
            with self._engine.connect() as connection:
                return list(connection.execute(statement))

        return self._patiently(read)

    def one(self, statement: str, key: str) -> Sequence[Any] | None:
        """The first row of `statement`, which takes `key`, on a connection kept for such.

        Asked before every model call: a statement on a pooled connection would take five times as long.

        Raises:
            StoreFailed: when it cannot be read.
        """

        def look() -> Sequence[Any] | None:
            if self._kept is None:
                self._kept = self._engine.raw_connection()
            try:
                cursor = self._kept.cursor()
                cursor.execute(statement, (key,))
                row: Sequence[Any] | None = cursor.fetchone()
                self._kept.rollback()
            except BaseException:
                self._kept.invalidate()
                self._kept = None
                raise
            return row

        with self._looking:
            return self._patiently(look)

    def close(self) -> None:
        """Let go of the kept connection."""
        with self._looking:
            if self._kept is not None:
                self._kept.close()
                self._kept = None

    def _patiently(self, read: Callable[[], Result]) -> Result:
        driver = self._engine.dialect.loaded_dbapi.Error
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return read()
            except (driver, DBAPIError) as error:
                cause = getattr(error, "orig", None) or error
                away = type(cause).__name__ in _AWAY and self._engine.dialect.name != "sqlite"
                if not away or time.monotonic() > deadline:
                    raise StoreFailed(f"{self._where} could not be read: {cause}; mend it, then resume") from error
                time.sleep(RETRY_SECONDS)
