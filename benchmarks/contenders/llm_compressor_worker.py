"""GPTQ by llmcompressor, in a Python that has it: JSON on standard input, {"model", "ids", "out"}, to a folder."""

import json
import sys

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier
from transformers import AutoModelForCausalLM

request = json.load(sys.stdin)
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.bfloat16)
scheme = {
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32},
}
recipe = GPTQModifier(config_groups={"group_0": scheme}, ignore=["lm_head"])
rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in request["ids"]]
oneshot(
    model=model,
    dataset=Dataset.from_list(rows),
    recipe=recipe,
    max_seq_length=len(rows[0]["input_ids"]),
    num_calibration_samples=len(rows),
)
model.save_pretrained(request["out"], save_compressed=True)
