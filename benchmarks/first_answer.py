"""How long does it take from a clean clone to the first answer, and which step takes it?

    .venv/bin/python benchmarks/first_answer.py [--revision HEAD] [--docs FOLDER] [--json FILE]

What `make run` does in a clone of `--revision` with an empty home: install, pull the weights, build, serve, answer the
recipe's question; then a second start and `lmworks ask`. Downloads are timed apart: packages and weights are fetched
into caches first, which the steps that are timed read from. CPU seconds are those of the step's own processes, on all
cores; what other processes took meanwhile is said at the end, and seconds by the clock are too long by it.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT = 3600.0  # seconds after which a server that does not answer is given up
MODELS = ("smollm2-135m-instruct", "all-minilm-l6-v2")
DOWNLOADS = "downloads:"  # begins the steps that are not counted
ASKED = 3  # times that `lmworks ask` is timed


@dataclass(frozen=True)
class Step:
    """A line of the table: seconds by the clock, and CPU seconds of the processes that it started."""

    name: str
    seconds: float
    cpu: float


@dataclass
class Run:
    """A clone with a home of its own, and what was timed in it so far."""

    clone: Path
    environment: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    server: int | None = None  # process that is still running

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began, cpu = time.perf_counter(), self.cpu()
        yield
        self.steps.append(Step(name, time.perf_counter() - began, self.cpu() - cpu))
        step = self.steps[-1]
        print(f"{name}: {step.seconds:.1f} s, CPU {step.cpu:.1f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)

    def cpu(self) -> float:
        """CPU seconds so far of the processes that ended, and of the server."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + (cpu_of(self.server) if self.server else 0.0)

    def run(self, *command: str | Path, folder: Path | None = None) -> str:
        """The standard output of a command in the clone; what it says on standard error is shown."""
        words = [str(word) for word in command]
        return subprocess.run(
            words, cwd=folder or self.clone, env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def lmworks(self, *arguments: str) -> str:
        return self.run(self.clone / ".venv/bin/lmworks", *arguments)


def cpu_of(process: int) -> float:
    """CPU seconds of a process that runs, and of its children that ended (Linux)."""
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")


def cpu_of_machine() -> float:
    """CPU seconds that all processes of this machine took since it started (Linux)."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def prepare(scratch: Path, revision: str) -> Run:
    """Clone the revision; a home, temporary files and caches of packages that are empty."""
    clone = scratch / "lmworks"
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", ROOT, clone], check=True)
    subprocess.run(["git", "checkout", "--quiet", revision], cwd=clone, check=True)
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment |= {
        "HOME": str(scratch / "home"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "LMWORKS_HOME": str(scratch / "weights"),
    }
    settings = Path.home() / ".config/pip/pip.conf"  # which package index is used
    if settings.exists():
        environment.setdefault("PIP_CONFIG_FILE", str(settings))
    (scratch / "home").mkdir()
    return Run(clone, environment)


def download(run: Run, scratch: Path) -> None:
    """Fill the caches of pip and uv with all that the installation fetches."""
    project = tomllib.loads((run.clone / "pyproject.toml").read_text("utf-8"))
    needed = project["project"]["dependencies"]
    torch = next(name for name in needed if name.startswith("torch"))
    python = scratch / "warm/bin/python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run.run(sys.executable, "-m", "venv", scratch / "warm")
    run.run(*pip, "install", "uv", torch)
    built_with = [*project["build-system"]["requires"], "cmake", "ninja"]
    run.run(scratch / "warm/bin/uv", "pip", "install", "--quiet", "--python", python, *needed, *built_with)
    shutil.rmtree(scratch / "warm")


@contextmanager
def server(run: Run, port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`lmworks up` or `serve`, ended as Ctrl-C ends it."""
    command = [str(run.clone / ".venv/bin/lmworks"), *arguments, "--port", str(port)]
    with subprocess.Popen(command, cwd=run.clone, env=run.environment, stdout=sys.stderr) as process:
        run.server = process.pid
        try:
            yield process
        finally:
            run.server = None
            process.send_signal(signal.SIGINT)
            process.wait(120)


def wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    """Return as soon as a GET of this address is answered with 200."""
    until = time.perf_counter() + LIMIT
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{url} did not answer in {LIMIT:.0f} s")


def ask(port: int, question: str) -> str:
    """The answer of the model "assistant" over HTTP."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def first_start(run: Run, docs: Path | None, question: str, port: int) -> tuple[str, dict[str, float]]:
    """`lmworks up` until the first answer, and until its last stage is made; the answer, and the seconds of stages."""
    recipe, name = ("documents", docs.resolve().name) if docs else ("assistant", "assistant")
    wanted = list(tomllib.loads((run.clone / f"src/lmworks/recipes/{recipe}.toml").read_text("utf-8"))["stages"])
    workspace, page = run.clone / ".lmworks" / name, f"http://127.0.0.1:{port}"
    with server(run, port, "up", *(("--docs", str(docs.resolve())) if docs else ())) as process:
        with run.timed("up: to the first page (HTTP 200)"):
            wait_for(process, page)
        with run.timed("up: from there until ready"):
            wait_for(process, f"{page}/ready")
        with run.timed("up: the first answer"):
            answer = ask(port, question)
        with run.timed("up: from there until all stages are made"):
            while len(made := stage_seconds(workspace)) < len(wanted) and process.poll() is None:
                time.sleep(0.2)
    return answer, {name: made[name] for name in wanted if name in made}


def stage_seconds(workspace: Path) -> dict[str, float]:
    """Seconds of each stage of what is built, as the manifests tell."""
    current = workspace / "current.json"
    stages = json.loads(current.read_text("utf-8"))["stages"] if current.exists() else {}
    manifests = {name: workspace / folder / "manifest.json" for name, folder in stages.items()}
    return {name: json.loads(path.read_text("utf-8"))["seconds"] for name, path in manifests.items()}


def later(run: Run, question: str, port: int) -> None:
    """A second start and questions in the terminal, also beside a process that takes one core."""
    page = f"http://127.0.0.1:{port}"
    with server(run, port, "serve") as process:
        with run.timed("second start: to the first page"):
            wait_for(process, page)
        with run.timed("second start: from there until ready"):
            wait_for(process, f"{page}/ready")
        with run.timed("second start: an answer"):
            ask(port, question)
    timed_asks(run, "lmworks ask", question)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        timed_asks(run, "lmworks ask, beside a busy process", question)
        busy.kill()


def timed_asks(run: Run, name: str, question: str) -> None:
    for _ in range(ASKED):
        with run.timed(name):
            run.lmworks("ask", question)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="HEAD", help="the commit to time, as git knows it; default HEAD")
    parser.add_argument("--docs", type=Path, help="a folder of documents; default those of Python")
    parser.add_argument("--question", default="What does functools.lru_cache do?")
    parser.add_argument("--folder", type=Path, help="where to work, and to leave everything; default a temporary one")
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = (options.folder or Path(name)).resolve()
        found, answer = measure(prepare(scratch, options.revision), scratch, options)
        show(found, answer, options.question)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def measure(run: Run, scratch: Path, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """All that the table shows, and the answer."""
    load, machine, began, port = os.getloadavg(), cpu_of_machine(), time.perf_counter(), free_port()
    with run.timed(f"{DOWNLOADS} packages"):
        download(run, scratch)
    with run.timed("install: PyTorch"):
        run.run("make", "--silent", ".venv/torch")
    with run.timed("install: lmworks and the rest"):
        run.run("make", "--silent", ".venv/installed")
    for name in (f"{DOWNLOADS} weights", "pull both models"):  # the second time from pip's cache
        shutil.rmtree(run.environment["LMWORKS_HOME"], ignore_errors=True)
        with run.timed(name):
            for model in MODELS:
                run.lmworks("pull", model)
    answer, stages = first_start(run, options.docs, options.question, port)
    later(run, options.question, port)
    found = {
        "commit": run.run("git", "rev-parse", "--short", "HEAD").strip(),
        "cores": os.cpu_count(),
        "load before": load,
        "CPU seconds of other processes": cpu_of_machine() - machine - run.cpu(),
        "seconds": time.perf_counter() - began,
        "steps": [asdict(step) for step in run.steps],
        "stages": stages,
    }
    return found, answer


def show(found: dict[str, Any], answer: str, question: str) -> None:
    print(f"\n{found['commit']}, {found['cores']} cores, load before: {found['load before'][0]:.1f}\n")
    print(f"{'step':<44} {'seconds':>8} {'CPU s':>8}")
    seconds = cpu = 0.0
    for step in found["steps"]:
        print(f"{step['name']:<44} {step['seconds']:8.1f} {step['cpu']:8.1f}")
        if not step["name"].startswith(DOWNLOADS):
            seconds, cpu = seconds + step["seconds"], cpu + step["cpu"]
        if step["name"] == "up: the first answer":
            print(f"{'= from a clean clone to the first answer':<44} {seconds:8.1f} {cpu:8.1f}")
    for name, seconds in found["stages"].items():
        print(f"{'  stage ' + name:<44} {seconds:8.1f}")
    print(f"{'  stages together':<44} {sum(found['stages'].values()):8.1f}")
    others, wall = found["CPU seconds of other processes"], found["seconds"]
    print(f"\nOther processes took {others:.0f} CPU seconds in {wall:.0f} s: {others / wall:.2f} cores.")
    print(f"{question}\n{answer}")


if __name__ == "__main__":
    main()
