"""What do 4 and 3 bits lose, by each method, and beside llama.cpp's formats of as many bytes?

    python benchmarks/quantisation.py MODEL --data DOCUMENTS ... [--minutes 5] [--out FOLDER]
                                      [--llama-python PATH] [--llm-compressor FOLDER]

MODEL is a folder of floats (of a model that is quantised already, `--set requantise=true` and fewer bits say how much
more is lost). A share of the documents is held out; the methods are calibrated on the others, and `qat`
trains on them for so many minutes. Every file is read back and its bits per byte are measured in float32, so that the
weights alone differ; the differences are paired by document, with 95 % intervals by bootstrap. Three bits are
simulated: they are held in the blocks of four, and the bytes are those that packed ones would take, said so.

llama.cpp quantises the same model, as it does by default, and with the importance matrix of our calibration (the mean
square of what comes into each column). Its token embedding is Q8_0 as ours is, so that equal bytes are compared; rows
that 256 does not divide fall back to other formats, and the bytes are those of the file. It is found in a Python of its
own: `python3 -m venv peers && peers/bin/pip install llama-cpp-py-sync`. llmcompressor, whose GPTQ gets the very
calibration text of ours, is found in a folder: `pip install --no-deps --target FOLDER llmcompressor accelerate datasets
auto-round psutil multiprocess dill xxhash nvidia-ml-py`. It keeps embedding and head in bfloat16.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import lmworks
from lmworks.compress import GridConfig, quantise, read_calibration
from lmworks.compress.compression_report import Measurement, measure
from lmworks.compress.config import CompareConfig, QuantiseConfig, SmoothQuantConfig
from lmworks.compress.stage import split_texts
from lmworks.config import assign, from_mapping, parse_assignment
from lmworks.model.download import located
from lmworks.model.gguf_names import tensor_slices
from lmworks.model.gguf_write import save_gguf, write_config
from lmworks.records import Scored

GRIDS = {
    "4.5 bits": GridConfig(4, symmetric=True),
    "5 bits": GridConfig(4),
    "3.5 bits (simulated)": GridConfig(3, symmetric=True),
    "4 bits (3 and a minimum, simulated)": GridConfig(3),
}
METHODS = ("rtn", "awq", "gptq", "qat")
# Of llama.cpp: `llama_ftype`, and the bits of ours that it has.
PEERS = {"Q4_0": (2, "4.5 bits"), "Q4_1": (3, "5 bits"), "Q4_K_M": (15, ""), "Q3_K_M": (12, ""), "Q3_K_S": (11, "")}
QUANTISE = """
import json, sys
from llama_cpp_py_sync._cffi_bindings import ffi, get_lib
lib, (source, target, kind, importance) = get_lib(), json.load(sys.stdin)
parameters = lib.llama_model_quantize_default_params()
parameters.nthread, parameters.ftype = 1, kind
parameters.token_embedding_type = parameters.output_tensor_type = 8  # Q8_0
kept = []
if importance:
    rows = ffi.new("struct llama_model_imatrix_data[]", len(importance) + 1)
    for row, (name, values) in zip(rows, importance.items()):
        kept += [ffi.new("char[]", name.encode()), ffi.new("float[]", values)]
        row.name, row.data, row.size = kept[-2], kept[-1], len(values)
    parameters.imatrix = rows
sys.exit(lib.llama_model_quantize(source.encode(), target.encode(), ffi.addressof(parameters)))
"""


@dataclass(frozen=True)
class Row:
    """A model of the table: the bits of its blocks' weights, what is compared with what, what making it took."""

    method: str
    bits: str
    measured: Measurement
    seconds: float = 0.0
    peak: int = 0  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--minutes", type=float, default=5.0, help="of qat; 0: without it")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--bits", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--held-out", type=float, default=0.2, help="share of the documents: what MODEL did not see")
    parser.add_argument("--characters", type=int, default=400_000, help="of 50 held-out documents, together, at most")
    parser.add_argument("--set", action="append", default=[], help="a setting of compress.quantise, key=value")
    parser.add_argument("--llama-python", default=os.environ.get("LLAMA_PYTHON"), help="default: LLAMA_PYTHON")
    parser.add_argument("--llm-compressor", help="the folder that llmcompressor was installed into")
    parser.add_argument("--out", type=Path, help="folder that keeps the files; what it has is not made again")
    arguments = parser.parse_args()
    arguments.model = str(located(arguments.model, Path.cwd()).absolute())
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        report([*rows(arguments, folder)])
        if arguments.llama_python is not None:
            report_loading(arguments, folder)


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Each model, measured."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, config = folder / "texts", CompareConfig(weights="float32", new=0, characters=arguments.characters)
    stage("corpus.read", texts, [], [f"sources={json.dumps([str(Path(each).absolute()) for each in arguments.data])}"])
    each = max(arguments.characters // 50, 200)
    held_out = [text[:each] for text in split_texts({"texts": texts}, arguments.held_out)[1] if text][:50]

    def row(method: str, bits: str, path: Path, seconds: float = 0.0, peak: int = 0) -> Row:
        return Row(method, bits, measure(path, held_out, config), seconds, peak)

    yield row("bfloat16", "16", Path(arguments.model))
    for bits in arguments.bits:
        for method in arguments.methods:
            out = folder / f"{method}-{bits.replace(' ', '-')}"
            seconds, peak = make(method, GRIDS[bits], arguments, texts, out)
            found = row(method, bits, out, seconds, peak)
            nbytes = packed_bytes(out / "model.gguf", GRIDS[bits])
            yield replace(found, measured=replace(found.measured, nbytes=nbytes))
    if arguments.llm_compressor is not None:
        out = folder / "llmcompressor"
        seconds, peak = llm_compressor(arguments, texts, out)
        yield row("llmcompressor gptq", "4.5 bits", out, seconds, peak)
    if arguments.llama_python is not None:
        for name, path in peers(arguments, texts, folder):
            yield row(f"llama.cpp {name}", PEERS[name.split()[0]][1] or "mixed", path)


def make(method: str, grid: GridConfig, arguments: argparse.Namespace, texts: Path, out: Path) -> tuple[float, int]:
    """The stage of a method in a process of its own; its seconds and its peak memory in bytes."""
    settings = [f"base={arguments.model}"]
    settings += [f"grid.bits={grid.bits}", f"grid.symmetric={str(grid.symmetric).lower()}"]
    if method != "qat":
        settings += [f"method.kind={method}", f"held_out={arguments.held_out}", *arguments.set]
        return stage("compress.quantise", out, [texts], settings)
    shards = texts.with_name("training")
    stage("data.tokenize", shards, [texts], [f"tokenizer={arguments.model}", f"held_out={arguments.held_out}"])
    return stage("compress.lsq", out, [shards], [*settings, f"tune.minutes={arguments.minutes}"])


def stage(use: str, out: Path, inputs: Sequence[Path], settings: Sequence[str]) -> tuple[float, int]:
    """Run a stage; see `timed`."""
    given = [word for each in inputs for word in ("--from", str(each))]
    given += [word for each in settings for word in ("--set", each)]
    return timed([sys.executable, "-m", "lmworks", "stage", use, *given, "--out", str(out)], out)


def timed(command: Sequence[str], out: Path, request: str = "", **environment: str) -> tuple[float, int]:
    """Run what makes `out`, unless it is there; its seconds and the peak of its process in bytes."""
    log = out.with_name(f"{out.name}.json")
    if not out.exists():
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as asked:
            asked.write(request)
            asked.seek(0)
            process = subprocess.Popen(command, stdin=asked, env={**os.environ, **environment})
            _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{command} failed")
        log.write_text(json.dumps([time.perf_counter() - began, used.ru_maxrss * 1024]))
    return tuple(json.loads(log.read_text()))


def llm_compressor(arguments: argparse.Namespace, texts: Path, out: Path) -> tuple[float, int]:
    """GPTQ of llmcompressor on our calibration text."""
    tokenizer, table = lmworks.load(arguments.model).required_tokenizer, dict[str, Any]()
    for path, value in map(parse_assignment, arguments.set):
        assign(table, path, value)
    config = from_mapping(QuantiseConfig, table).calibration
    text = read_calibration(split_texts({"texts": texts}, arguments.held_out)[0], tokenizer, config)
    request = json.dumps({"model": arguments.model, "ids": text.ids.tolist(), "out": str(out)})
    worker = Path(__file__).parent / "contenders" / "llm_compressor_worker.py"
    found = timed([sys.executable, str(worker)], out, request, PYTHONPATH=arguments.llm_compressor)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(Path(arguments.model) / name, out / name)
    return found


def packed_bytes(path: Path, grid: GridConfig) -> int:
    """The bytes of a file whose weights of 3 bits were packed."""
    size = path.stat().st_size
    if grid.bits < 4:
        weights: Any = lmworks.load(path).weights
        blocks = [weights[name] for name in weights if (weights.blocks(name) or ("", 0))[0] in ("Q4_0", "Q4_1")]
        size -= sum(matrix.numel() for matrix in blocks) * (4 - grid.bits) // 8
    return size


def peers(arguments: argparse.Namespace, texts: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files that llama.cpp quantises, without and with an importance matrix."""
    checkpoint = lmworks.load(arguments.model)
    source = folder / "bf16.gguf"
    if not source.exists():
        save_gguf(checkpoint, source, "BF16")
    importance = importance_matrix(checkpoint, split_texts({"texts": texts}, arguments.held_out)[0])
    for name, (kind, _) in PEERS.items():
        for suffix, given in (("", None), (" with an importance matrix", importance)):
            path = folder / f"{name}{'-imatrix' if given else ''}.gguf"
            if not path.exists():
                request = json.dumps([str(source), str(path), kind, given])
                command = [arguments.llama_python, "-c", QUANTISE]
                subprocess.run(command, input=request, text=True, check=True, capture_output=True)
            yield f"{name}{suffix}", path


def importance_matrix(checkpoint: Any, texts: Sequence[str]) -> Mapping[str, list[float]]:
    """The mean square of what comes into each column, by llama.cpp's names of the matrices."""
    config = QuantiseConfig(method=SmoothQuantConfig(strength=0.0), grid=GridConfig(8))
    inputs = quantise(checkpoint, config, texts).inputs
    named = tensor_slices(checkpoint.config, write_config(checkpoint.config)[1])
    return {named[f"{name}.weight"].tensor: own.mean_square.tolist() for name, own in inputs.items()}


def report(found: Sequence[Row]) -> None:
    base = found[0].measured
    rounded = {row.bits: row.measured for row in found if row.method == "rtn"}
    ours = {row.bits: row.measured for row in found if row.method == "gptq"}
    table = Table(box=None, header_style="bold")
    for column in ("method", "weights", "bytes", "bits per byte", "less bfloat16", "less rtn", "less gptq", "s", "MB"):
        table.add_column(column, justify="left" if column in ("method", "weights") else "right")
    for row in found:
        differences = [
            shown(row.measured, other) if other is not None and other is not row.measured else ""
            for other in (base, rounded.get(row.bits), ours.get(row.bits))
        ]
        value = f"{row.measured.mean:.4f}"
        cost = (f"{row.seconds:.0f}", f"{row.peak / 1e6:.0f}") if row.peak else ("", "")
        table.add_row(row.method, row.bits, f"{row.measured.nbytes:,}", value, *differences, *cost)
    Console(width=200).print(table)
    print(
        f"{len(base.rows)} documents, {int(base.rows[:, 1].sum()):,} bytes; seconds and peak are of the whole process"
    )


def report_loading(arguments: argparse.Namespace, folder: Path) -> None:
    """How far llama.cpp is from our engine on the files of both: each rounds activations to int8 in its own way."""
    worker = str(Path(__file__).parent / "contenders" / "llama_logits_worker.py")
    for path in (*folder.glob("*/model.gguf"), folder / "Q4_0.gguf", folder / "Q4_1.gguf"):
        checkpoint = lmworks.load(path)
        ids = checkpoint.required_tokenizer.encode(__doc__ or "")[:256]
        asked = json.dumps([str(path), ids])
        command = [arguments.llama_python, worker]
        said = subprocess.run(command, input=asked, text=True, check=True, capture_output=True).stdout
        theirs = np.array(json.loads(said.splitlines()[-1]))
        (score,) = lmworks.Engine(checkpoint, 1, len(ids)).score([ids[:1]], [ids[1:]])
        gap = np.array(score.log_probabilities) - theirs
        print(
            f"{path.relative_to(folder)}: log p of llama.cpp and ours, {len(gap)} tokens: mean {gap.mean():+.5f}, ",
            end="",
        )
        print(f"largest difference {np.abs(gap).max():.4f}")


def shown(one: Measurement, other: Measurement) -> str:
    score = one.less(other)
    if not isinstance(score, Scored):
        return "the same" if np.array_equal(one.rows, other.rows) else str(score)
    return f"{score.value:+.4f} [{score.interval[0]:+.4f}, {score.interval[1]:+.4f}]"


if __name__ == "__main__":
    main()
