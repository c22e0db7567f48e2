"""`lmworks serve` as a process of its own, with what the operating system tells of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx


class Server:
    """A server on a free port of this machine; `program` is what Python runs, `lmworks serve` at first."""

    def __init__(
        self,
        workspace: Path,
        arguments: list[str],
        environment: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "lmworks", "serve"),
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, *program, "--workspace", str(workspace), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *arguments], env={**os.environ, "OMP_WAIT_POLICY": "passive", **(environment or {})}
        )

    def wait_until_ready(self, seconds: float = 120.0) -> float:
        """Seconds from now until /ready says so; RuntimeError when the process ends before."""
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=5.0).status_code == 200:
                    return time.perf_counter() - started
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the server did not become ready")

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)
