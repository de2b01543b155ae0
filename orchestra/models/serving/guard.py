"""A small process between a server and whoever started it, which ends the server and all the server started.

It does so when told to, or when nobody is left to tell. It is run as a script and needs the standard library alone. Its
standard input is a pipe whose other end only the starter holds: the end of file there means "end it", whether the
starter closed it, crashed or was killed. The server runs in a process group of its own, so that the processes it starts
are reached too.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PATIENCE_SECONDS = 10.0
"""How long a server may take to end by itself; after it, the whole group is killed."""
LOOK_SECONDS = 0.2


def main(command: list[str]) -> int:
    """Run `command` until it ends, or standard input does, or a signal says so; its exit code."""
    told = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(number))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_dies_with_us)
    while server.poll() is None and not told and not _told_to_end():
        pass
    if server.poll() is None:
        server.terminate()
    _clear(server)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _told_to_end() -> bool:
    try:
        ready, _, _ = select.select([0], [], [], LOOK_SECONDS)
        return bool(ready) and not os.read(0, 4096)
    except (OSError, ValueError):
        return True


def _clear(server: "subprocess.Popen[bytes]") -> None:
    """Wait for everything in the server's group to end, then kill what has not."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends:
        server.poll()  # reaps it, so that it does not count
        try:
            os.killpg(server.pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        if server.returncode is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(server.pid, signal.SIGTERM)  # its children outlived it
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)


def _dies_with_us() -> None:
    """On Linux the server is told to end when this guard is killed; elsewhere nothing does that."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
