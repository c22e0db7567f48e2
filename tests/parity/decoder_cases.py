"""The decoders of `transformers` that are compared; see `harness.py`. Every window is shorter than the texts are."""

from harness import Case

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
NEOX = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
GPT = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}
GEMMA = {**SIZES, "head_dim": 24}
# Lengths and factors at which some planes are kept, some are scaled and some lie between, within 64 positions.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 128}
LINEAR = {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0}
LOCAL_AND_GLOBAL = {"sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}, "full_attention": LINEAR}

DECODERS = (
    Case("gpt", "OpenAIGPTLMHeadModel", GPT, attention="eager", positions=True),
    Case("gpt, bare", "OpenAIGPTModel", GPT, attention="eager", positions=True),
    Case("gpt2", "GPT2LMHeadModel", GPT, positions=True),
    Case("gpt2, wide", "GPT2LMHeadModel", {**GPT, "n_inner": 100, "tie_word_embeddings": False}, positions=True),
    Case("gpt2, bare", "GPT2Model", GPT, positions=True),
    Case("gpt2, classifier", "GPT2ForSequenceClassification", {**GPT, "num_labels": 5}, positions=True),
    Case("gpt_neox", "GPTNeoXForCausalLM", NEOX, positions=True),
    Case("gpt_neox, serial", "GPTNeoXForCausalLM", {**NEOX, "use_parallel_residual": False}, positions=True),
    Case("llama", "LlamaForCausalLM", {**SIZES, "head_dim": 24}, positions=True),
    Case(
        "llama 3",
        "LlamaForCausalLM",
        {**SIZES, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
        positions=True,
    ),
    Case("llama, yarn", "LlamaForCausalLM", {**SIZES, "rope_parameters": YARN}, positions=True),
    Case("llama, linear", "LlamaForCausalLM", {**SIZES, "rope_parameters": LINEAR}, positions=True),
    Case("llama, bare", "LlamaModel", SIZES, positions=True),
    Case("llama, classifier", "LlamaForSequenceClassification", {**SIZES, "num_labels": 5}, positions=True),
    Case("llama, score", "LlamaForSequenceClassification", {**SIZES, "num_labels": 1}, positions=True),
    Case("mistral", "MistralForCausalLM", {**SIZES, "sliding_window": 7}, positions=True),
    Case(
        "mixtral",
        "MixtralForCausalLM",
        {
            **SIZES,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": 7,
            "experts_implementation": "eager",
        },
        positions=True,
    ),
    Case("qwen2", "Qwen2ForCausalLM", SIZES, positions=True),
    Case(
        "qwen2, window",
        "Qwen2ForCausalLM",
        {**SIZES, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
        positions=True,
    ),
    Case("qwen3", "Qwen3ForCausalLM", {**SIZES, "head_dim": 24, "tie_word_embeddings": True}, positions=True),
    Case("phi3", "Phi3ForCausalLM", {**SIZES, "sliding_window": 7}, positions=True),
    Case("phi4-mini", "Phi3ForCausalLM", {**SIZES, "partial_rotary_factor": 0.75}, positions=True),
    Case("gemma", "GemmaForCausalLM", GEMMA, positions=True),
    Case(
        "gemma2",
        "Gemma2ForCausalLM",
        {**GEMMA, "sliding_window": 7, "query_pre_attn_scalar": 16},
        attention="eager",  # the others leave out the cap
        positions=True,
    ),
    Case(
        "gemma3",
        "Gemma3ForCausalLM",
        {**GEMMA, "sliding_window": 7, "rope_parameters": LOCAL_AND_GLOBAL, "query_pre_attn_scalar": 24},
        positions=True,
    ),
    Case(
        "gemma3, layers",
        "Gemma3ForCausalLM",
        {
            **GEMMA,
            "sliding_window": 7,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "final_logit_softcapping": 5.0,
        },
        positions=True,
    ),
)
