"""Log-probabilities of a text under a GGUF file by llama.cpp, in a Python that has llama-cpp-py-sync: JSON on standard
input, [file, ids], to a list on standard output."""

import json
import math
import sys

from llama_cpp_py_sync._cffi_bindings import get_lib

lib, (path, ids) = get_lib(), json.load(sys.stdin)
lib.llama_backend_init()
model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
settings = lib.llama_context_default_params()
settings.n_ctx = settings.n_batch = settings.n_ubatch = len(ids)
context = lib.llama_init_from_model(model, settings)
batch = lib.llama_batch_init(len(ids), 0, 1)
batch.n_tokens = len(ids)
for place, token in enumerate(ids):
    batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
    batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
if lib.llama_decode(context, batch):
    sys.exit("llama.cpp could not run the file")
size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
found = []
for place, token in enumerate(ids[1:]):
    row = lib.llama_get_logits_ith(context, place)[0:size]
    most = max(row)
    found.append(row[token] - most - math.log(sum(math.exp(value - most) for value in row)))
print(json.dumps(found))
