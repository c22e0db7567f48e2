"""llama.cpp through llama-cpp-python's low-level functions, as a contender; run by the Python that has the library.

Everything is left at llama.cpp's defaults (flash attention where it helps, repacked weights, 16-bit keys and values,
512 tokens in a physical batch); the most probable token is taken with numpy. With `--quantise` it writes a GGUF file in
another format instead.
"""

import argparse
import ctypes
import time
from functools import cache
from typing import Any

from worker import Prompts, resident_bytes, serve, use_processors

BATCH = 2048  # tokens in one call


def quantise(library: Any, source: str, target: str, name: str, threads: int) -> None:
    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{name}")
    parameters.allow_requantize, parameters.nthread = True, threads
    if library.llama_model_quantize(source.encode(), target.encode(), parameters):
        raise SystemExit(f"llama.cpp cannot write {source} as {name}")


class Llama:
    """One model, and a context for every shape of workload."""

    def __init__(self, library: Any, path: str, threads: int) -> None:
        self.library, self.threads = library, threads
        parameters = library.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = library.llama_model_load_from_file(path.encode(), parameters)
        self.vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.model))
        self.batch = library.llama_batch_init(BATCH, 0, 1)
        self.context = cache(self._new_context)

    def run(self, prompts: Prompts, new: int) -> dict[str, Any]:
        context = self.context(len(prompts), len(prompts[0]) + new)
        self.library.llama_memory_clear(self.library.llama_get_memory(context), True)
        began = time.perf_counter()
        chosen = [self._read(context, prompts)]
        entered = time.perf_counter()
        for step in range(new - 1):
            tokens = [(token, len(prompts[0]) + step, sequence, True) for sequence, token in enumerate(chosen[-1])]
            self._decode(context, tokens)
            chosen.append([self._most_probable(context, sequence) for sequence in range(len(prompts))])
        ended = time.perf_counter()
        return {
            "prefill": sum(map(len, prompts)) / (entered - began),
            "decode": len(prompts) * (new - 1) / (ended - entered),
            "ids": list(zip(*chosen, strict=True)),
        }

    def _read(self, context: Any, prompts: Prompts) -> list[int]:
        """The prompts, as many tokens in a call as it takes; the first new token of each."""
        tokens = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        first = []
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            self._decode(context, part)
            first += [self._most_probable(context, index) for index, token in enumerate(part) if token[3]]
        return first

    def _decode(self, context: Any, tokens: list[tuple[int, int, int, bool]]) -> None:
        """One call for (token, position, sequence, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for index, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position, wanted
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        if self.library.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")

    def _most_probable(self, context: Any, index: int) -> int:
        import numpy as np

        logits = self.library.llama_get_logits_ith(context, index)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())

    def _new_context(self, sequences: int, length: int) -> Any:
        parameters = self.library.llama_context_default_params()
        parameters.n_ctx = sequences * -(-length // 256) * 256  # llama.cpp rounds a sequence's cache up to 256 tokens
        parameters.n_batch, parameters.n_seq_max = BATCH, sequences
        parameters.n_threads = parameters.n_threads_batch = self.threads
        return self.library.llama_init_from_model(self.model, parameters)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quantise", nargs=2, metavar=("FORMAT", "TARGET"))
    options = parser.parse_args()
    use_processors(options.threads)
    import llama_cpp  # pyright: ignore[reportMissingImports]

    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    if options.quantise:
        name, target = options.quantise
        quantise(llama_cpp, options.model, target, name, options.threads)
        return
    imported = resident_bytes()
    serve(Llama(llama_cpp, options.model, options.threads).run, imported)


if __name__ == "__main__":
    main()
