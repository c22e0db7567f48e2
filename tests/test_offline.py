"""Nothing leaves the machine: the guard over the whole suite works, here and in child processes."""

import socket
import subprocess
import sys

import loopback
import pytest

from kit.tables import for_each

OUTSIDE = ("192.0.2.1", 80)  # TEST-NET-1 (RFC 5737): belongs to nobody


def test_a_connection_to_the_outside_is_refused_and_noted():
    before = len(loopback.VIOLATIONS)
    with socket.socket() as one, pytest.raises(PermissionError, match="about to leave"):
        one.settimeout(1)
        one.connect(OUTSIDE)
    assert len(loopback.VIOLATIONS) == before + 1
    del loopback.VIOLATIONS[before:]


def test_child_processes_are_guarded_too():
    script = f"import socket; s = socket.socket(); s.settimeout(1); s.connect({OUTSIDE!r})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode != 0
    assert "about to leave this machine" in result.stderr


@for_each(
    ("address", "local"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.9.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("localhost", 1), True),
        ("/run/socket", True),
        (("10.0.0.1", 1), False),
        (("2001:db8::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (("example.org", 1), False),
    ],
)
def test_what_counts_as_this_machine(address, local):
    assert loopback.is_local(address) is local
