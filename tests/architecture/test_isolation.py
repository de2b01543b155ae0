"""What `tests/conftest.py` promises: no test leaves this machine or touches the user's own store."""

import os
import socket
from pathlib import Path

import pytest


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_connection_beyond_loopback_is_refused_before_it_is_made(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as wire, pytest.raises(RuntimeError, match="tests stay on this machine"):
        wire.connect((host, 80))


def test_a_name_is_not_even_looked_up():
    with pytest.raises(RuntimeError, match=r"example\.org"):
        socket.getaddrinfo("example.org", 80)


def test_loopback_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_the_store_of_a_test_is_its_own(tmp_path_factory):
    assert Path(os.environ["XDG_DATA_HOME"]).is_relative_to(tmp_path_factory.getbasetemp())
    assert "ORCHESTRA_STORE" not in os.environ
