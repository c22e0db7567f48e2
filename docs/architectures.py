"""Makes docs/architectures.md and its pictures: every family drawn from its config, and what changed from the one that
it continues, computed as the difference of the two configs.

python docs/architectures.py
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from lmworks.model import config as configs
from lmworks.model import description
from lmworks.model.config import FeedForward, MixtureOfExperts, ModelConfig
from lmworks.model.diagram import draw
from lmworks.model.model_costs import count_active_parameters, count_parameters
from lmworks.model.presets.sizes import SIZES

DOCS = Path(__file__).parent


class Entry(NamedTuple):
    """A family in the gallery: the size that is drawn, the size of the family that it continues, and its arXiv id."""

    title: str
    size: str
    paper: str
    before: str | None
    arxiv: str | None = None


HISTORY = (
    Entry("Transformer", "transformer-base", "Vaswani et al., June 2017, “Attention is all you need”", None,
          "1706.03762"),
    Entry("GPT-1", "gpt1-117m", "Radford et al., June 2018, “Improving language understanding by generative "
          "pre-training”", "transformer-base"),
    Entry("BERT", "bert-base", "Devlin et al., October 2018, “BERT: Pre-training of deep bidirectional transformers”",
          "gpt1-117m", "1810.04805"),
    Entry("GPT-2", "gpt2-124m", "Radford et al., February 2019, “Language models are unsupervised multitask learners”",
          "gpt1-117m"),
    Entry("RoBERTa", "roberta-base", "Liu et al., July 2019, “RoBERTa: A robustly optimized BERT pretraining approach”",
          "bert-base", "1907.11692"),
    Entry("SpanBERT", "spanbert-base", "Joshi et al., July 2019, “SpanBERT: Improving pre-training by representing and "
          "predicting spans”", "bert-base", "1907.10529"),
    Entry("T5", "t5-base", "Raffel et al., October 2019, “Exploring the limits of transfer learning with a unified "
          "text-to-text transformer”", "transformer-base", "1910.10683"),
    Entry("BART", "bart-base", "Lewis et al., October 2019, “BART: Denoising sequence-to-sequence pre-training”",
          "transformer-base", "1910.13461"),
    Entry("T5 1.1", "t5-1.1-base", "Shazeer, February 2020, “GLU variants improve transformer”", "t5-base",
          "2002.05202"),
    Entry("GPT-3", "gpt3-175b", "Brown et al., May 2020, “Language models are few-shot learners”", "gpt2-124m",
          "2005.14165"),
    Entry("Switch", "switch-base", "Fedus et al., January 2021, “Switch transformers: Scaling to trillion parameter "
          "models”", "t5-base", "2101.03961"),
    Entry("Jurassic-1", "jurassic1-jumbo", "Lieber et al., August 2021, “Jurassic-1: Technical details and evaluation”",
          "gpt3-175b"),
    Entry("Gopher", "gopher-280b", "Rae et al., December 2021, “Scaling language models: Methods, analysis and "
          "insights from training Gopher”", "gpt2-124m", "2112.11446"),
    Entry("GLaM", "glam-64b-64e", "Du et al., December 2021, “GLaM: Efficient scaling of language models with "
          "mixture-of-experts”", "gpt3-175b", "2112.06905"),
    Entry("LaMDA", "lamda-137b", "Thoppilan et al., January 2022, “LaMDA: Language models for dialog applications”",
          "gpt2-124m", "2201.08239"),
    Entry("Chinchilla", "chinchilla-70b", "Hoffmann et al., March 2022, “Training compute-optimal large language "
          "models”", "gopher-280b", "2203.15556"),
    Entry("GPT-NeoX, Pythia", "gpt-neox-20b", "Black et al., April 2022, “GPT-NeoX-20B: An open-source autoregressive "
          "language model”", "gpt3-175b", "2204.06745"),
    Entry("LLaMA", "llama-7b", "Touvron et al., February 2023, “LLaMA: Open and efficient foundation language models”",
          "gpt2-124m", "2302.13971"),
    Entry("LLaMA 2", "llama2-70b", "Touvron et al., July 2023, “Llama 2: Open foundation and fine-tuned chat models”",
          "llama-7b", "2307.09288"),
    Entry("Mistral", "mistral-7b", "Jiang et al., October 2023, “Mistral 7B”", "llama2-70b", "2310.06825"),
    Entry("Mixtral", "mixtral-8x7b", "Jiang et al., January 2024, “Mixtral of experts”", "mistral-7b", "2401.04088"),
    Entry("Gemma", "gemma-2b", "Gemma Team, March 2024, “Gemma: Open models based on Gemini research and technology”",
          "llama-7b", "2403.08295"),
    Entry("LLaMA 3", "llama3-8b", "Grattafiori et al., April and July 2024, “The Llama 3 herd of models”",
          "llama2-70b", "2407.21783"),
    Entry("Phi-3", "phi3-mini", "Abdin et al., April 2024, “Phi-3 technical report: A highly capable language model "
          "locally on your phone”", "llama-7b", "2404.14219"),
    Entry("Qwen2", "qwen2-7b", "Yang et al., July 2024, “Qwen2 technical report”", "llama2-70b", "2407.10671"),
    Entry("Gemma 2", "gemma2-2b", "Gemma Team, July 2024, “Gemma 2: Improving open language models at a practical "
          "size”", "gemma-2b", "2408.00118"),
    Entry("LLaMA 3.1", "llama3.1-405b", "Grattafiori et al., July 2024, “The Llama 3 herd of models”", "llama3-8b",
          "2407.21783"),
    Entry("Gemma 3", "gemma3-4b", "Gemma Team, March 2025, “Gemma 3 technical report”", "gemma2-2b", "2503.19786"),
    Entry("Qwen3", "qwen3-8b", "Yang et al., May 2025, “Qwen3 technical report”", "qwen2-7b", "2505.09388"),
)  # fmt: skip


def traits(config: ModelConfig) -> dict[str, str]:
    """What a family is made of, without its sizes."""
    blocks = [block for stack in config.stacks for block in stack.blocks]
    stacks = {name: stack for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)) if stack}
    embedding = config.embedding
    positions = [_position(position) for position in (embedding.positions, *(b.attention.position for b in blocks))]
    positions += ["relative bias, shared by all blocks" for stack in config.stacks if stack.relative_bias]
    return {
        "stacks": "–".join(stacks),
        "positions": _distinct(positions) or "none",
        "norm": _distinct(description.norm_words(block.norm) + _offset(block.norm) for block in blocks),
        "place of the norm": _distinct(block.norm_at for block in blocks),
        "norm at the end": "yes" if config.stacks[-1].final_norm else "no",
        "norm of the embedding": "yes" if embedding.norm else "no",
        "attention": _distinct(_heads(block.attention) for block in blocks),
        "attention pattern": _distinct(_pattern(block.attention) for block in blocks),
        "QK norms": "yes" if blocks[0].attention.qk_norm else "no",
        "score cap": "yes" if blocks[0].attention.softcap else "no",
        "score scale": _scale(blocks[0].attention),
        "feed-forward": _distinct(_feed_forward(block.feed_forward) for block in blocks),
        "biases": _biases(config),
        "token types": "yes" if embedding.token_types > 1 else "no",
        "scaled embedding": "yes" if embedding.scale else "no",
    } | _head(config.head)


def _head(head: configs.Head | None) -> dict[str, str]:
    language_model = head if isinstance(head, configs.LanguageModelHead) else configs.LanguageModelHead(tied=True)
    return {
        "head": head.kind.replace("_", " ") if head else "none",
        "output projection": "tied" if language_model.tied else "untied",
        "logit bias": "yes" if language_model.bias else "no",
        "scaled logits": "yes" if language_model.scale else "no",
        "logit cap": "yes" if language_model.softcap else "no",
    }


def _distinct(words) -> str:
    return " / ".join(dict.fromkeys(word for word in words if word))


def _position(position: object) -> str:
    match position:
        case None:
            return ""
        case configs.Rope(scaling=scaling) as rope:
            return description.position_words(replace(rope, scaling=None)) + (
                f", {scaling.kind} scaling" if scaling else ""
            )
        case _:
            return position.kind.replace("_", " ")


def _offset(norm: configs.Norm) -> str:
    return ", weights as the distance from one" if norm.offset else ""


def _heads(attention: configs.Attention) -> str:
    return description.attention_title(attention, causal=False).removesuffix(" attention")


def _pattern(attention: configs.Attention) -> str:
    return attention.pattern.kind.replace("_", " ") if attention.pattern else "everything"


def _scale(attention: configs.Attention) -> str:
    return "1/√head" if attention.scale is None else f"{attention.scale:g}"


def _feed_forward(part: FeedForward | MixtureOfExperts) -> str:
    if isinstance(part, MixtureOfExperts):
        return f"top {part.top_k} of many experts, each {_feed_forward(part.expert)}"
    return description.activation_words(part.activation) + (", gated" if part.gated else "")


def _biases(config: ModelConfig) -> str:
    block = config.stacks[-1].blocks[0]
    attention, feed_forward = block.attention, block.feed_forward
    dense = feed_forward.expert if isinstance(feed_forward, MixtureOfExperts) else feed_forward
    where = ["query, key, value"] if attention.bias else []
    where += ["attention output"] if attention.has_output_bias else []
    where += ["feed-forward"] if dense.bias else []
    return "everywhere" if len(where) == 3 else ", ".join(where) or "none"


def changes(before: ModelConfig, after: ModelConfig) -> list[str]:
    """What differs between two families, "name: old → new"."""
    old, new = traits(before), traits(after)
    return [f"{name}: {old[name]} → {new[name]}" for name in new if old[name] != new[name]]


def main(write: Callable[[Path, str], object] = Path.write_text) -> None:
    titles = {entry.size: entry.title for entry in HISTORY}
    sections = []
    for entry in HISTORY:
        config = SIZES[entry.size].config
        write(DOCS / "architectures" / f"{entry.size}.svg", draw(config, f"{entry.title} ({entry.size})"))
        authors = entry.paper.partition(", “")[0]
        paper = f"[{authors}](https://arxiv.org/abs/{entry.arxiv})" if entry.arxiv else entry.paper
        paragraph = fill(f"{paper}. Drawn: `{entry.size}`, {_numbers(config)}.", 120, break_on_hyphens=False)
        section = f"## {entry.title}\n\n{paragraph}\n"
        if entry.before is not None:
            different = changes(SIZES[entry.before].config, config) or ["nothing but the sizes"]
            section += f"\nChanged from {titles[entry.before]}:\n\n" + "".join(f"- {line}\n" for line in different)
        sections.append(f"{section}\n![{entry.title}](architectures/{entry.size}.svg)\n")
    write(DOCS / "architectures.md", INTRODUCTION + "\n" + "\n".join(sections))


def _numbers(config: ModelConfig) -> str:
    total, active = count_parameters(config), count_active_parameters(config)
    return f"{total:,} parameters" + (f", of which each token uses {active:,}" if active != total else "")


INTRODUCTION = """# Transformer architectures

Every family as a picture, and as the difference from the family that it continues, both computed from the configs
(`python docs/architectures.py`), so they match the [code](model.md).

```sh
lmworks model list
lmworks model show llama2-7b --svg llama2.svg
```

Hidden states flow from bottom to top. Frames are repeated blocks; a dashed frame repeats a group. Norms are yellow,
attention orange, feed-forward networks blue, embeddings red, heads violet. Presets are in `src/lmworks/model/presets/`.
"""


if __name__ == "__main__":
    (DOCS / "architectures").mkdir(exist_ok=True)
    main()
