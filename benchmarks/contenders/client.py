"""The parent's side of a contender: start it, let it run a workload, end it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_INSTALL = """llama-cpp-python is not there; compile it for this machine in an environment of its own:

    python3 -m venv peers && CMAKE_ARGS=-DGGML_NATIVE=ON peers/bin/pip install llama-cpp-python

and name its Python with --llama-python peers/bin/python or in LLAMA_PYTHON"""


class Contender:
    """A process that runs workloads; `name` is what the tables call it. Its memory stays as it is in between."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    def run(self, prompts: Sequence[Sequence[int]], new: int) -> dict[str, Any]:
        """{"prefill", "decode"}: tokens per second; {"resident", "peak"}: bytes beyond the imported library."""
        assert self._process.stdin is not None
        print(json.dumps({"prompts": prompts, "new": new}), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended: its own message stands above")
        return json.loads(line)


def llama_cpp(name: str, python: str, model: Path, threads: int) -> Contender:
    return Contender(name, [python, str(_HERE / "llama_cpp_worker.py"), "--model", str(model), f"--threads={threads}"])


def lmworks(
    name: str, model: Path, weights: str, threads: int, slots: int, context: int, speculate: bool = False
) -> Contender:
    options = [f"--weights={weights}", f"--threads={threads}", f"--slots={slots}", f"--context={context}"]
    options += ["--speculate"] if speculate else []
    return Contender(name, [sys.executable, str(_HERE / "lmworks_worker.py"), "--model", str(model), *options])


def transformers(name: str, folder: Path, threads: int) -> Contender:
    options = ["--model", str(folder), f"--threads={threads}"]
    return Contender(name, [sys.executable, str(_HERE / "transformers_worker.py"), *options])


def quantise(python: str, source: Path, folder: Path, name: str) -> Path:
    """The model as llama.cpp writes it in another format, such as "Q4_0": the same weights for both sides."""
    target = folder / f"{source.stem}-{name}.gguf"
    command = [python, str(_HERE / "llama_cpp_worker.py"), "--model", str(source), "--threads=2"]
    subprocess.run([*command, "--quantise", name, str(target)], check=True)
    return target


def llama_python(given: str | None) -> str:
    """The Python that has llama-cpp-python: what was given, or LLAMA_PYTHON. Exits with how to install it."""
    python = given or os.environ.get("LLAMA_PYTHON") or sys.executable
    try:
        found = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True).returncode == 0
    except OSError:
        found = False
    if not found:
        raise SystemExit(_INSTALL)
    return python
