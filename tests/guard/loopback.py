"""No connection leaves this machine while the tests run: the hook that sees to it, in this process and in children.

`tests/conftest.py` imports it and puts this folder on PYTHONPATH, so that every Python that a test starts runs
`sitecustomize.py` beside it. `pip`, with which `lmworks pull` fetches the weights once, is the only one let through.
"""

import ipaddress
import os
import sys

VIOLATIONS: list[str] = []


def is_local(address: object) -> bool:
    """Whether a socket address stays on this machine: loopback, unspecified, or no internet address at all."""
    if not isinstance(address, tuple):
        return True  # the path of a Unix socket, a netlink address
    host = str(address[0]).partition("%")[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host in ("localhost", "")
    return found.is_loopback or found.is_unspecified


def guard(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and not is_local(arguments[1]):
        VIOLATIONS.append(f"{event} {arguments[1]!r}")
        message = f"a connection to {arguments[1]!r} was about to leave this machine"
        print(message, file=sys.stderr)
        raise PermissionError(message)


if os.environ.get("LMWORKS_GUARD") and "pip" not in sys.orig_argv:
    sys.addaudithook(guard)
