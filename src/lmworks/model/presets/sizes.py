"""Published sizes of the families, as a table: `SIZES["gpt2-124m"].config` is an architecture, built when asked for.

Every row has the number of parameters as its source states it, digit for digit. What is counted here must round to it
(tests/model/test_model_costs.py), or the row's note says by how much it differs, and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lmworks.model import presets
from lmworks.model.config import LinearScaling, Llama3Scaling, MaskedLanguageModelHead, ModelConfig, Norm, Rope
from lmworks.model.model_costs import count_parameters, sizes_of_parts

Counts = Literal["all", "without embeddings"]


@dataclass(frozen=True)
class Published:
    """One size of a family.

    preset       the name of its function in `presets`, called with `arguments`.
    parameters   as published: "124M", "1.2T", or all digits.
    counts       which parameters that number counts; "without embeddings" leaves out an untied head as well.
    note         for a number that ours does not round to: the deviation, and its reason where one is known.
    """

    preset: str
    arguments: Mapping[str, Any]
    parameters: str
    source: str
    counts: Counts = "all"
    note: str = ""

    @cached_property
    def config(self) -> ModelConfig:
        return getattr(presets, self.preset)(**self.arguments)

    def counted(self) -> int:
        """Our number of the parameters that the source counts."""
        sizes = sizes_of_parts(self.config)
        without = ("embedding", "head") if self.counts == "without embeddings" else ()
        return count_parameters(self.config) - sum(sizes[part].total for part in without if part in sizes)


SIZES: dict[str, Published] = {}

_SHAPE = ("width", "layers", "heads", "hidden")
_GROUPED = ("width", "layers", "heads", "kv_heads", "hidden")


def _add(
    preset: str,
    source: str,
    names: tuple[str, ...],
    rows: dict[str, tuple[Any, ...]],
    counts: Counts = "all",
    **common: Any,
) -> None:
    """`rows`: size → the published number, the values of the arguments `names`, a note if any; `common` is shared."""
    for size, (parameters, values, *note) in rows.items():
        arguments = common | dict(zip(names, values, strict=True))
        SIZES[size] = Published(preset, arguments, parameters, source, counts, *note)


_RELEASED = "the released weights"
_BERT_HEAD = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
_ROBERTA_HEAD = MaskedLanguageModelHead("gelu", Norm("layer", 1e-5))
_T5 = ("width", "layers", "heads", "hidden", "head_dim")

_add("transformer", "Vaswani et al. 2017, table 3", _SHAPE, {
    "transformer-base": ("65M", (512, 6, 8, 2048), "-3.0%: the vocabulary is only known as about 37,000"),
    "transformer-big": ("213M", (1024, 6, 16, 4096), "+0.6%: the vocabulary is only known as about 37,000"),
}, vocabulary=37_000)  # fmt: skip
_add("gpt1", "Radford et al. 2018, as GPT-2's table 2 counts it", _SHAPE, {
    "gpt1-117m": ("117M", (768, 12, 12, 3072)),
}, vocabulary=40_478, context_length=512)  # fmt: skip
_add("bert", "Devlin et al. 2019, section 3", _SHAPE, {
    "bert-base": ("110M", (768, 12, 12, 3072)),
    "bert-large": ("340M", (1024, 24, 16, 4096), "-1.4%: the paper rounds to tens"),
}, vocabulary=30_522, head=_BERT_HEAD)  # fmt: skip
_add("gpt2", "Radford et al. 2019, as the authors' repository corrects table 2", _SHAPE, {
    "gpt2-124m": ("124M", (768, 12, 12, 3072)),
    "gpt2-355m": ("355M", (1024, 24, 16, 4096)),
    "gpt2-774m": ("774M", (1280, 36, 20, 5120)),
    "gpt2-1558m": ("1558M", (1600, 48, 25, 6400)),
}, vocabulary=50_257, context_length=1024)  # fmt: skip
_add("roberta", "the authors' repository", _SHAPE, {
    "roberta-base": ("125M", (768, 12, 12, 3072)),
    "roberta-large": ("355M", (1024, 24, 16, 4096)),
}, vocabulary=50_265, head=_ROBERTA_HEAD)  # fmt: skip
_add("spanbert", "the authors' repository", _SHAPE, {
    "spanbert-base": ("110M", (768, 12, 12, 3072)),
    "spanbert-large": ("340M", (1024, 24, 16, 4096),
        "-0.9%: the number is BERT's; the vocabulary is smaller, the second head comes on top"),
}, vocabulary=28_996)  # fmt: skip
_add("t5", "Raffel et al. 2020, section 3.7", _T5, {
    "t5-small": ("60M", (512, 6, 8, 2048, 64), "+0.8%: the paper says about"),
    "t5-base": ("220M", (768, 12, 12, 3072, 64), "+1.3%: the paper says about"),
    "t5-large": ("770M", (1024, 24, 16, 4096, 64), "-4.2%: the paper says about; the released weights are ours"),
    "t5-3b": ("2.8B", (1024, 24, 32, 16_384, 128), "+1.8%: the paper says about"),
    "t5-11b": ("11B", (1024, 24, 128, 65_536, 128)),
}, vocabulary=32_128)  # fmt: skip
_add("t5_v1_1", "Chung et al. 2022, table 2, for Flan-T5 of the same shape", _T5, {
    "t5-1.1-small": ("80M", (512, 8, 6, 1024, 64), "-3.8%: the paper rounds to tens"),
    "t5-1.1-base": ("250M", (768, 12, 12, 2048, 64), "-1.0%: the paper rounds to tens"),
    "t5-1.1-large": ("780M", (1024, 24, 16, 2816, 64), "+0.4%: the paper rounds to tens"),
    "t5-1.1-3b": ("3B", (2048, 24, 32, 5120, 64)),
    "t5-1.1-11b": ("11B", (4096, 24, 64, 10_240, 64)),
}, vocabulary=32_128)  # fmt: skip
_add("bart", "the authors' repository", _SHAPE, {
    "bart-base": ("140M", (768, 6, 12, 3072), "-0.4%: rounded to tens"),
    "bart-large": ("400M", (1024, 12, 16, 4096),
        "+1.6%: rounded to hundreds; the paper says 10 % more than BERT of that size"),
}, vocabulary=50_265)  # fmt: skip
_add("gpt3", "Brown et al. 2020, table 2.1", (*_SHAPE, "head_dim"), {
    "gpt3-125m": ("125M", (768, 12, 12, 3072, 64)),
    "gpt3-350m": ("350M", (1024, 24, 16, 4096, 64), "+1.7%: GPT-2 of this shape has 355M too"),
    "gpt3-760m": ("760M", (1536, 24, 16, 6144, 96)),
    "gpt3-1.3b": ("1.3B", (2048, 24, 16, 8192, 128),
        "the table's 24 heads of 128 would make it 1.5B; 16 heads fill the width and give its number"),
    "gpt3-2.7b": ("2.7B", (2560, 32, 32, 10_240, 80)),
    "gpt3-6.7b": ("6.7B", (4096, 32, 32, 16_384, 128)),
    "gpt3-13b": ("13B", (5140, 40, 40, 20_560, 128)),
    "gpt3-175b": ("175B", (12_288, 96, 96, 49_152, 128)),
}, vocabulary=50_257, context_length=2048)  # fmt: skip
_add("switch", "Fedus et al. 2022, table 9", (*_SHAPE, "experts", "sparse_every"), {
    "switch-base": ("7B", (768, 12, 12, 3072, 128, 2),
        "6,144 values of a gated expert in the table are counted as 3,072 of a plain one"),
    "switch-large": ("26B", (1024, 24, 16, 4224, 128, 2), "+4.3%: the reason is not known"),
    "switch-xxl": ("395B", (4096, 24, 64, 15_360, 128, 2),
        "128 experts, as released; the table's 64 would make it 201B"),
    "switch-c": ("1571B", (2080, 15, 32, 6144, 2048, 1)),
}, vocabulary=32_128)  # fmt: skip
_add("gopher", "Rae et al. 2021, table 1", (*_SHAPE, "head_dim"), {
    "gopher-44m": ("44M", (512, 8, 16, 2048, 32)),
    "gopher-117m": ("117M", (768, 12, 12, 3072, 64)),
    "gopher-417m": ("417M", (1536, 12, 12, 6144, 128)),
    "gopher-1.4b": ("1.4B", (2048, 24, 16, 8192, 128)),
    "gopher-7.1b": ("7.1B", (4096, 32, 32, 16_384, 128)),
    "gopher-280b": ("280B", (16_384, 80, 128, 65_536, 128)),
}, vocabulary=32_000)  # fmt: skip
_add("jurassic1", "Lieber et al. 2021, table 1", _SHAPE, {
    "jurassic1-large": ("7.5B", (4096, 32, 32, 16_384)),
    "jurassic1-jumbo": ("178B", (13_824, 76, 96, 55_296)),
}, vocabulary=256_000, context_length=2048)  # fmt: skip
_add("chinchilla", "Hoffmann et al. 2022, tables 4 and A9", (*_SHAPE, "head_dim"), {
    "chinchilla-74m": ("74M", (640, 10, 10, 2560, 64)),
    "chinchilla-163m": ("163M", (768, 18, 12, 3072, 64)),
    "chinchilla-251m": ("251M", (1024, 16, 16, 4096, 64)),
    "chinchilla-16b": ("16183M", (5120, 47, 40, 20_480, 128)),
    "chinchilla-70b": ("70B", (8192, 80, 64, 32_768, 128)),
}, vocabulary=32_000)  # fmt: skip
_add("lamda", "Thoppilan et al. 2022, section 3 and table 27", _SHAPE, {
    "lamda-2b": ("2B", (2560, 10, 40, 20_480)),
    "lamda-8b": ("8B", (4096, 16, 64, 32_768), "+7.4%: the reason is not known"),
    "lamda-137b": ("137B", (8192, 64, 128, 65_536)),
}, counts="without embeddings", vocabulary=32_000)  # fmt: skip
_add("glam", "Du et al. 2022, table 4", (*_SHAPE, "experts", "head_dim"), {
    "glam-1.7b-64e": ("27B", (2048, 24, 16, 8192, 64, 128)),
    "glam-8b-64e": ("143B", (4096, 32, 32, 16_384, 64, 128), "+0.6%: 143.9B, cut instead of rounded"),
    "glam-64b-64e": ("1.2T", (8192, 64, 128, 32_768, 64, 128)),
}, vocabulary=256_000)  # fmt: skip
_add("gpt_neox", "Biderman et al. 2023, table 1", _SHAPE, {
    "pythia-70m": ("18,915,328", (512, 6, 8, 2048)),
    "pythia-160m": ("85,056,000", (768, 12, 12, 3072)),
    "pythia-410m": ("302,311,424", (1024, 24, 16, 4096)),
    "pythia-1b": ("805,736,448", (2048, 16, 8, 8192)),
    "pythia-1.4b": ("1,208,602,624", (2048, 24, 16, 8192)),
    "pythia-2.8b": ("2,517,652,480", (2560, 32, 32, 10_240)),
    "pythia-6.9b": ("6,444,163,072", (4096, 32, 32, 16_384)),
    "pythia-12b": ("11,327,027,200", (5120, 36, 40, 20_480)),
}, counts="without embeddings", vocabulary=50_304, context_length=2048)  # fmt: skip
_add("gpt_neox", "Black et al. 2022, section 2", _SHAPE, {
    "gpt-neox-20b": ("20,554,567,680", (6144, 44, 64, 24_576)),
}, vocabulary=50_432, context_length=2048)  # fmt: skip
_add("llama", "Touvron et al. 2023, table 2", _GROUPED, {
    "llama-7b": ("6.7B", (4096, 32, 32, 32, 11_008)),
    "llama-13b": ("13.0B", (5120, 40, 40, 40, 13_824)),
    "llama-33b": ("32.5B", (6656, 60, 52, 52, 17_920)),
    "llama-65b": ("65.2B", (8192, 80, 64, 64, 22_016), "+0.1%: 65.29B, as the released weights have"),
}, vocabulary=32_000, context_length=2048)  # fmt: skip
_add("llama", _RELEASED, _GROUPED, {
    "llama2-7b": ("6,738,415,616", (4096, 32, 32, 32, 11_008)),
    "llama2-13b": ("13,015,864,320", (5120, 40, 40, 40, 13_824)),
    "llama2-70b": ("68,976,648,192", (8192, 80, 64, 8, 28_672)),
}, vocabulary=32_000, context_length=4096)  # fmt: skip
_add("llama", _RELEASED, _GROUPED, {
    "llama3-8b": ("8,030,261,248", (4096, 32, 32, 8, 14_336)),
    "llama3-70b": ("70,553,706,496", (8192, 80, 64, 8, 28_672)),
}, vocabulary=128_256, context_length=8192, rope=Rope(500_000.0))  # fmt: skip
_add("llama", "Grattafiori et al. 2024, table 3", _GROUPED, {
    "llama3.1-8b": ("8B", (4096, 32, 32, 8, 14_336)),
    "llama3.1-70b": ("70B", (8192, 80, 64, 8, 28_672), "+0.8%: the released weights have 70.6B too"),
    "llama3.1-405b": ("405B", (16_384, 126, 128, 8, 53_248), "+0.2%: the released weights have 405.9B too"),
}, vocabulary=128_256, context_length=131_072, rope=Rope(500_000.0, scaling=Llama3Scaling(8.0, 8192)))  # fmt: skip
_add("llama", "the model card", _GROUPED, {
    "llama3.2-1b": ("1.23B", (2048, 16, 32, 8, 8192), "+0.5%: 1.236B, cut instead of rounded"),
    "llama3.2-3b": ("3.21B", (3072, 28, 24, 8, 8192)),
}, vocabulary=128_256, context_length=131_072, tied=True,
    rope=Rope(500_000.0, scaling=Llama3Scaling(32.0, 8192)))  # fmt: skip
_add("mistral", _RELEASED, _GROUPED, {
    "mistral-7b": ("7,241,732,096", (4096, 32, 32, 8, 14_336)),
}, vocabulary=32_000, context_length=32_768, window=4096)  # fmt: skip
_add("mixtral", _RELEASED, (*_GROUPED, "experts"), {
    "mixtral-8x7b": ("46,702,792,704", (4096, 32, 32, 8, 14_336, 8)),
    "mixtral-8x22b": ("140,620,634,112", (6144, 56, 48, 8, 16_384, 8)),
}, vocabulary=32_000, context_length=32_768)  # fmt: skip
_add("phi3", "Abdin et al. 2024, section 2", _GROUPED, {
    "phi3-mini": ("3.8B", (3072, 32, 32, 32, 8192)),
    "phi3-medium": ("14B", (5120, 40, 40, 10, 17_920)),
}, vocabulary=32_064, context_length=4096)  # fmt: skip
_add("qwen2", _RELEASED, (*_GROUPED, "vocabulary", "tied"), {
    "qwen2-0.5b": ("494,032,768", (896, 24, 14, 2, 4864, 151_936, True)),
    "qwen2-1.5b": ("1,543,714,304", (1536, 28, 12, 2, 8960, 151_936, True)),
    "qwen2-7b": ("7,615,616,512", (3584, 28, 28, 4, 18_944, 152_064, False)),
    "qwen2-72b": ("72,706,203,648", (8192, 80, 64, 8, 29_568, 152_064, False)),
}, context_length=32_768)  # fmt: skip
_add("qwen3", _RELEASED, (*_GROUPED, "tied"), {
    "qwen3-0.6b": ("596,049,920", (1024, 28, 16, 8, 3072, True)),
    "qwen3-1.7b": ("1,720,574,976", (2048, 28, 16, 8, 6144, True)),
    "qwen3-4b": ("4,022,468,096", (2560, 36, 32, 8, 9728, True)),
    "qwen3-8b": ("8,190,735,360", (4096, 36, 32, 8, 12_288, False)),
    "qwen3-14b": ("14,768,307,200", (5120, 40, 40, 8, 17_408, False)),
    "qwen3-32b": ("32,762,123,264", (5120, 64, 64, 8, 25_600, False)),
}, vocabulary=151_936, context_length=32_768, head_dim=128)  # fmt: skip
_add("gemma", _RELEASED, _GROUPED, {
    "gemma-2b": ("2,506,172,416", (2048, 18, 8, 1, 16_384)),
    "gemma-7b": ("8,537,680,896", (3072, 28, 16, 16, 24_576)),
}, vocabulary=256_000, context_length=8192, head_dim=256)  # fmt: skip
_add("gemma2", "Gemma Team 2024, table 2", (*_GROUPED, "head_dim", "scale"), {
    "gemma2-2b": ("2,024M", (2304, 26, 8, 4, 9216, 256, None), "+0.0%: 2,024.5M, cut instead of rounded"),
    "gemma2-9b": ("8,324M", (3584, 42, 16, 8, 14_336, 256, None)),
    "gemma2-27b": ("26,047M", (4608, 46, 32, 16, 36_864, 128, 144**-0.5)),
}, counts="without embeddings", vocabulary=256_128, context_length=8192)  # fmt: skip
_add("gemma3", "Gemma Team 2025, table 1", (*_GROUPED, "head_dim"), {
    "gemma3-1b": ("698M", (1152, 26, 4, 1, 6912, 256)),
}, counts="without embeddings", vocabulary=262_144, context_length=32_768)  # fmt: skip
_add("gemma3", "Gemma Team 2025, table 1", (*_GROUPED, "head_dim", "scale"), {
    "gemma3-4b": ("3,209M", (2560, 34, 8, 4, 10_240, 256, None)),
    "gemma3-12b": ("10,759M", (3840, 48, 16, 8, 15_360, 256, None)),
    "gemma3-27b": ("25,600M", (5376, 62, 32, 16, 21_504, 128, 168**-0.5)),
}, counts="without embeddings", vocabulary=262_144, context_length=131_072, window=1024,
    rope=Rope(1_000_000.0, scaling=LinearScaling(8.0)))  # fmt: skip
_add("gemma3", _RELEASED, (*_GROUPED, "head_dim"), {
    "gemma3-270m": ("268,098,176", (640, 18, 4, 1, 2048, 256)),
}, vocabulary=262_144, context_length=32_768)  # fmt: skip
