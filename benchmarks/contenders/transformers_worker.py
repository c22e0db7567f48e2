"""transformers in bfloat16 with PyTorch's attention and a static cache of just the length needed, as a contender.

That is its fastest setting without a compiler, which takes longer to warm up than such a benchmark takes in all.
Decoding is the bare loop, forward and argmax, without `generate` around it, which costs several milliseconds a token.
"""

import argparse
import time
from typing import Any

from worker import Prompts, resident_bytes, serve, use_processors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    use_processors(options.threads)
    import torch
    from transformers import AutoModelForCausalLM, StaticCache
    from transformers.utils import logging

    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    imported = resident_bytes()
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.bfloat16, attn_implementation="sdpa", local_files_only=True
    ).eval()

    @torch.inference_mode()
    def run(prompts: Prompts, new: int) -> dict[str, Any]:
        cache = StaticCache(model.config, len(prompts[0]) + new)
        began = time.perf_counter()
        output = model(torch.tensor(prompts), past_key_values=cache, use_cache=True, logits_to_keep=1)
        chosen = [output.logits[:, -1].argmax(-1)]
        entered = time.perf_counter()
        for _ in range(new - 1):
            output = model(chosen[-1][:, None], past_key_values=cache, use_cache=True)
            chosen.append(output.logits[:, -1].argmax(-1))
        ended = time.perf_counter()
        return {
            "prefill": sum(map(len, prompts)) / (entered - began),
            "decode": len(prompts) * (new - 1) / (ended - entered),
            "ids": torch.stack(chosen, dim=1).tolist(),
        }

    serve(run, imported)


if __name__ == "__main__":
    main()
