"""Where a server listens, and who reaches it there: checked before anything heavy is imported or loaded."""

import ipaddress
import socket

from lmworks.serve.config import ServeConfig


def is_loopback(host: str) -> bool:
    """True for a name or an address that only this machine can reach; also an IPv4 address written as IPv6."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def check_exposure(config: ServeConfig) -> None:
    """ValueError for a server that others can reach and that asks for no keys."""
    if not is_loopback(config.host) and not config.keys:
        raise ValueError(
            f"--host {config.host} lets others on the network in, so requests must carry a key: make one with "
            "`lmworks keys add NAME` and give its file with --keys, or leave out --host to serve this machine alone"
        )


def listen(config: ServeConfig) -> socket.socket:
    """A listening socket, so that a taken port is found before minutes of loading; OSError names what to do."""
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(f"the host {config.host!r} cannot be found ({error}); give another one with --host") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without it the end of an answer waits for an acknowledgement, which comes 40 ms late.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot listen on {config.host}:{config.port} ({reason}); give another port with --port "
            "(--port 0 takes a free one)"
        ) from None
    return listener


def check_address(config: ServeConfig) -> None:
    """Errors as of `check_exposure` and `listen`."""
    check_exposure(config)
    listen(config).close()
