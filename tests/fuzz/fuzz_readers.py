"""Fuzzing of a reader or extractor, guided by what of its code each input reaches (Atheris, which is libFuzzer).

    python tests/fuzz/fuzz_readers.py html --seconds 300
    python tests/fuzz/fuzz_readers.py all --seconds 60

Inputs are mutated by what is known of the format, and the interesting ones are kept in `--work` for the next time. An
input that raises, takes longer than `--timeout` or more than `--megabytes` is written there too and told at the end.
The exit status is 1 where there was one.
"""

import argparse
import contextlib
import logging
import mmap
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

_TALLY = struct.Struct("<QQQd")  # executions, crashes, hangs, seconds of the slowest input
_LENGTH = 1 << 16  # bytes of an input
_PATIENCE = 6  # times the bound, which is of CPU time, until an input is given up by the clock: for busy machines
_PYTHON = ("lmworks.corpus", "email", "zipfile", "tarfile", "_markupbase", "markdown_it", "html", "xml")  # instrumented


class _Tally:
    """Counts that outlive the process in which an input crashes or hangs."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_TALLY.size))
        with path.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), _TALLY.size)

    def read(self) -> tuple[int, int, int, float]:
        return _TALLY.unpack(self._map)

    def write(self, executions: int, crashes: int, hangs: int, slowest: float) -> None:
        self._map[:] = _TALLY.pack(executions, crashes, hangs, slowest)


def _child(name: str, work: Path, timeout: float, settings: list[str]) -> None:
    """Fuzz until the time is over, or an input takes the process with it."""
    import atheris

    sys.path.insert(0, str(Path(__file__).parent))
    with atheris.instrument_imports(include=list(_PYTHON)):
        from fuzz_targets import TARGETS
    target = TARGETS[name]
    tally = _Tally(work / "tally")
    warnings.simplefilter("ignore")
    logging.disable()
    told: set[str] = set()

    def run(raw: bytes) -> None:
        executions, crashes, hangs, slowest = tally.read()
        start = time.process_time()
        try:
            target.run(raw)
        except Exception as error:
            where = _where(error)
            if where not in told:
                told.add(where)
                crashes += 1
                (work / f"found-{where}").write_bytes(raw)
                traceback.print_exc()
        seconds = time.process_time() - start
        if seconds > slowest:
            slowest = seconds
            (work / "slowest").write_bytes(raw)
        if seconds > timeout:
            hangs += 1
            (work / f"slow-{hangs}").write_bytes(raw)
        tally.write(executions + 1, crashes, hangs, slowest)

    def mutate(raw: bytes, most: int, seed: int) -> bytes:
        choose = random.Random(seed)
        if choose.random() < 0.3:
            return atheris.Mutate(raw, most)
        return target.mutate(raw, choose)[:most]

    atheris.Setup([sys.argv[0], *settings], run, custom_mutator=mutate)
    atheris.Fuzz()


def _where(error: Exception) -> str:
    """The exception and the innermost line of ours that it came through, as a part of a file name."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lmworks" in frame.filename] or frames
    return f"{type(error).__name__}-{Path(ours[-1].filename).stem}-{ours[-1].lineno}"


def fuzz(name: str, seconds: float, work: Path, timeout: int, megabytes: int) -> int:
    """Fuzz one target; prints a line, and returns the number of crashes, hangs and inputs of too much memory."""
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    (work / "tally").unlink(missing_ok=True)
    subprocess.run([sys.executable, __file__, name, "--seeds", str(work / "corpus")], check=True)
    started = time.monotonic()
    while (left := seconds - (time.monotonic() - started)) > 1:
        settings = [
            f"-max_total_time={int(left)}", f"-timeout={_PATIENCE * timeout}", f"-rss_limit_mb={megabytes}", f"-max_len={_LENGTH}",
            f"-artifact_prefix={work}/", str(work / "corpus"),
        ]  # fmt: skip
        with (work / "log").open("ab") as log:
            arguments = [sys.executable, __file__, name, "--child", str(work), str(timeout), *settings]
            before = _Tally(work / "tally").read()[0]
            subprocess.run(arguments, stdout=log, stderr=log, check=False)
        if _Tally(work / "tally").read()[0] == before:
            raise RuntimeError(f"{name} could not be fuzzed: {work / 'log'} says why")
    executions, crashes, hangs, slowest = _Tally(work / "tally").read()
    died = {kind: sorted(work.glob(f"{kind}-*")) for kind in ("crash", "timeout", "oom")}
    found = crashes + hangs + sum(map(len, died.values()))
    print(
        f"{name}: {executions:,} executions in {seconds:g} s, {crashes + len(died['crash'])} crashes, "
        f"{hangs + len(died['timeout'])} hangs, {len(died['oom'])} out of memory; slowest input {slowest:.2f} s",
        flush=True,
    )
    for path in sorted(
        [*work.glob("found-*"), *work.glob("slow-*"), *(path for paths in died.values() for path in paths)]
    ):
        print(f"  {path}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="the name of a target, or `all`; `list` prints the names")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--timeout", type=int, default=5, help="CPU seconds of an input, above which it hangs")
    parser.add_argument(
        "--megabytes", type=int, default=2048, help="of the process, above which an input takes too much"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir(), "lmworks-fuzz"), help="folder of finds"
    )
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    from fuzz_targets import TARGETS

    if arguments.target == "list":
        print("\n".join(TARGETS))
        return 0
    names = list(TARGETS) if arguments.target == "all" else [arguments.target]
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    bounds = (arguments.timeout, arguments.megabytes)
    return int(any(fuzz(name, arguments.seconds, arguments.work / name, *bounds) for name in names))


def _write_seeds(name: str, folder: Path) -> None:
    from fuzz_targets import TARGETS

    for number, seed in enumerate(TARGETS[name].seeds):
        (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    match sys.argv[2:3]:
        case ["--child"]:
            _child(sys.argv[1], Path(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
        case ["--seeds"]:
            _write_seeds(sys.argv[1], Path(sys.argv[3]))
        case _:
            with contextlib.suppress(KeyboardInterrupt):
                sys.exit(main())
