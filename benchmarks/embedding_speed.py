"""Embedding texts with one checkpoint: lmworks beside sentence-transformers and OpenVINO, speed and what it costs.

    python3 -m venv peers && peers/bin/pip install sentence-transformers openvino    # may be thrown away
    .venv/bin/python benchmarks/embedding_speed.py --peers peers [--texts 64] [--rounds 7] [--threads 2] [--faq CSV]

The texts are pieces of classic books, about 180 tokens each, as chunks of an index are. sentence-transformers is asked
with its defaults (float32, 32 texts in a batch) and with bfloat16; OpenVINO gets the same weights and computes in
bfloat16, with pooling in its graph, batches of so many texts of nearly one length (--batch), and one stream for each
thread. All tokenise in the time that is measured. They take turns; told are the median of tokens a second, the median
ratio to sentence-transformers within a round with its lowest and highest, 1 - cosine to float32 (mean, largest), the
milliseconds of one question of a dozen tokens, and with --faq how often the nearest answer to a question is its own.
Threads that wait for each other by spinning lose many times what others take of a busy machine; there --threads 1
--processor-time is fair, the seconds that processors worked in place of those of the clock.
"""

import argparse
import csv
import gzip
import io
import site
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import texts as real_texts
from contenders.bystanders import Watch
from contenders.comparison import Measurements, in_turns, ratios

import lmworks
from lmworks.generate import TextEncoder
from lmworks.kernels import library
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import locate

MODEL = "all-minilm-l6-v2"
QUESTION = "How do I ask for leave when my manager is away?"
BATCH = 32  # texts, the default of sentence-transformers
Encode = Callable[[Sequence[str]], np.ndarray]  # texts → (texts, width), rows of length 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the environment that has the peers; default: this one")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=32, help="texts of OpenVINO's batches")
    parser.add_argument("--processor-time", action="store_true", help="for busy machines, with --threads 1: see above")
    parser.add_argument("--faq", type=Path, help="a CSV with the columns question and answer")
    parser.add_argument("--data", type=Path, default=real_texts.DATA)
    arguments = parser.parse_args()
    if arguments.peers is not None:
        for folder in arguments.peers.glob("lib/python*/site-packages"):
            site.addsitedir(str(folder))
    torch.set_num_threads(arguments.threads)
    library.set_threads(arguments.threads)
    checkpoint = lmworks.load(MODEL)
    contenders = load_contenders(checkpoint, arguments.threads, arguments.batch)
    texts = pieces(arguments.data, arguments.texts)
    tokens = sum(len(ids) for ids in checkpoint.required_tokenizer.encode_batch(texts, special=True))
    print(f"{len(texts)} texts of {tokens / len(texts):.0f} tokens on average, {arguments.threads} threads")
    clock = time.process_time if arguments.processor_time else time.perf_counter
    watch, measured = Watch([]), Measurements()
    vectors = {name: encode(texts) for name, encode in contenders.items()}  # warms up
    for _, order in in_turns(list(contenders), arguments.rounds):
        for name in order:
            measured.add(name, "speed", tokens / seconds(contenders[name], texts, clock))
            question = min(seconds(contenders[name], [QUESTION], clock) for _ in range(5))
            measured.add(name, "question", 1e3 * question)
    print(f"others took {watch.share():.0%} of the machine\n")
    rows = read_faq(arguments.faq) if arguments.faq is not None else []
    print(f"{'':30}{'tokens/s':>10}{'ratio':>20}{'1 - cosine (most)':>22}{'question':>10}{'answers found':>16}")
    for name, encode in contenders.items():
        speed, base = measured.values[name]["speed"], measured.values["sentence-transformers"]["speed"]
        ratio, lost = ratios(base, speed), 1 - (vectors[name] * vectors["lmworks float32"]).sum(1)
        found = f"{nearest_is_own(encode, rows):.3f} of {len(rows)}" if rows else ""
        print(
            f"{name:30}{statistics.median(speed):10,.0f}{ratio.median:8.2f} ({ratio.least:.2f}-{ratio.most:.2f})"
            f"{lost.mean():13.1e} ({lost.max():.0e}){statistics.median(measured.values[name]['question']):7.1f} ms"
            f"{found:>16}"
        )


def load_contenders(checkpoint: Checkpoint, threads: int, batch: int) -> dict[str, Encode]:
    """Exits with a message where a peer is missing."""
    try:
        import openvino
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise SystemExit(f"{error}: pip install sentence-transformers openvino, see --help") from error
    folder, device = str(locate(MODEL)), "cpu"
    plain = SentenceTransformer(folder, device=device)
    rounded = SentenceTransformer(folder, device=device, model_kwargs={"dtype": torch.bfloat16})
    int8, rounded16, exact = (TextEncoder(checkpoint, weights=form) for form in ("int8", "bfloat16", "float32"))
    return {
        "sentence-transformers": lambda texts: plain.encode(list(texts), batch_size=BATCH),
        "sentence-transformers bfloat16": lambda texts: rounded.encode(list(texts), batch_size=BATCH),
        "OpenVINO bfloat16": openvino_encoder(openvino, folder, checkpoint, threads, batch),
        "lmworks float32": lambda texts: exact.encode(texts, "passage"),
        "lmworks bfloat16": lambda texts: rounded16.encode(texts, "passage"),
        "lmworks int8 (the default)": lambda texts: int8.encode(texts, "passage"),
    }


class Pooled(torch.nn.Module):
    """The mean of the last hidden states, of length 1."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        real = attention_mask[:, :, None].to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=-1)


def openvino_encoder(openvino: Any, folder: str, checkpoint: Checkpoint, threads: int, batch: int) -> Encode:
    from transformers import AutoModel

    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        graph = openvino.convert_model(Pooled(AutoModel.from_pretrained(folder).eval()), example_input=example)
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    compiled = openvino.Core().compile_model(graph, "CPU", hints)
    tokenizer, length = checkpoint.required_tokenizer, checkpoint.max_length

    def encode(texts: Sequence[str]) -> np.ndarray:
        ids, _ = tokenizer.encode_truncated(texts, length)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        vectors = np.zeros((len(texts), checkpoint.config.embedding.width), np.float32)
        queue = openvino.AsyncInferQueue(compiled, threads)
        queue.set_callback(lambda request, rows: vectors.__setitem__(rows, request.get_output_tensor().data))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            padded = np.zeros((len(rows), len(ids[rows[-1]])), np.int64)
            mask = np.zeros_like(padded)
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])], mask[place, : len(ids[row])] = ids[row], 1
            queue.start_async({"input_ids": padded, "attention_mask": mask}, rows)
        queue.wait_all()
        return vectors

    return encode


def pieces(data: Path, count: int) -> list[str]:
    """Pieces of 100 to 160 words, from the books in turns."""
    generator = np.random.default_rng(0)
    words = [book.split() for book in real_texts.books(data).values()]
    found = []
    for number in range(count):
        start, length = 1000 + 200 * (number // len(words)), int(generator.integers(100, 160))
        found.append(" ".join(words[number % len(words)][start : start + length]))
    return found


def seconds(encode: Encode, texts: Sequence[str], clock: Callable[[], float]) -> float:
    began = clock()
    encode(texts)
    return clock() - began


def read_faq(path: Path) -> list[dict[str, str]]:
    """Questions with their answers, one question for each answer."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = csv.DictReader(io.StringIO(raw.decode("utf-8", "replace")))
    return list({row["answer"]: row for row in rows if row["question"] and row["answer"]}.values())


def nearest_is_own(encode: Encode, rows: Sequence[dict[str, str]]) -> float:
    """The part of the questions whose nearest answer is their own."""
    questions, answers = (encode([row[column] for row in rows]) for column in ("question", "answer"))
    return float(((questions @ answers.T).argmax(1) == np.arange(len(rows))).mean())


if __name__ == "__main__":
    main()
