"""The verb `model`: architectures and what they cost, without their weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.output import new_console, show_table

if TYPE_CHECKING:
    from rich.tree import Tree

    from lmworks.model.config import ModelConfig, Stack
    from lmworks.model.presets.sizes import Published

app = typer.Typer(no_args_is_help=True, help="Architectures: what they are made of and what they cost.")


@app.command(name="list")
def list_() -> None:
    """List the families and their published sizes, with the parameters that the paper gives and those counted.

    Where the two differ by more than rounding, `show` says why.

    Any name of the list can be shown: `lmworks model show gpt2-124m`
    """
    from lmworks.model.presets.sizes import SIZES

    rows = []
    for name, size in SIZES.items():
        deviation = size.note.partition(":")[0] if size.note[:1] in ("+", "-") else ""
        counts = "" if size.counts == "all" else "no embeddings"
        remark = ", ".join(filter(None, (counts, deviation)))
        rows.append((size.preset, name, size.parameters, f"{size.counted():,}", remark))
    show_table(("family", "size", "published", "counted", ""), rows)


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="A preset, a published size, a pulled model, a Hugging Face folder or a .gguf file.")
    ],
    svg: Annotated[Path | None, typer.Option(help="Draw the architecture into this file.")] = None,
    context: Annotated[int, typer.Option(help="Tokens attended to; 0: as many as the model was trained for.")] = 0,
) -> None:
    """Print what a model is made of: its parts, parameters, operations per token, and memory. No weights are read.

    Examples: `lmworks model show llama` · `lmworks model show gpt3-175b --context 512` ·
    `lmworks model show ./my-checkpoint --svg picture.svg`
    """
    if context < 0:
        raise ValueError(f"--context must be a number of tokens, got {context}")
    title, config, published = _find(model)
    console = new_console()
    console.print(_tree(title, config))
    console.print(_costs(config, context or config.context_length), highlight=False)
    if published is not None:
        note = f" ({published.note})" if published.note else ""
        console.print(f"published: {published.parameters}, {published.counts}; {published.source}{note}")
    if svg is not None:
        from lmworks.model.diagram import draw

        svg.write_text(draw(config, title), encoding="utf-8")
        console.print(f"drawn -> {svg}")


def _find(name: str) -> "tuple[str, ModelConfig, Published | None]":
    """A title, the config, and what was published about it; LookupError with the nearest names for an unknown one."""
    import difflib

    from lmworks.model.download import MODELS, locate, weights_path
    from lmworks.model.presets.sizes import SIZES

    presets = {size.preset: key for key, size in reversed(SIZES.items())}  # a family's first size stands for it
    key = presets.get(name, name)
    if key in SIZES:
        return key, SIZES[key].config, SIZES[key]
    path = weights_path(locate(name) if name in MODELS else Path(name))
    if name and path.is_dir():
        from lmworks.model.checkpoint import read_document
        from lmworks.model.huggingface import read_config
        from lmworks.model.sentence_transformers import read_pooling

        pool, _ = read_pooling(path)
        return path.resolve().name, read_config(read_document(path), pool), None
    if path.is_file():
        from lmworks.model.gguf_file import open_gguf
        from lmworks.model.gguf_read import read_config as read_gguf_config

        config, _ = read_gguf_config(open_gguf(path))
        return path.stem, config, None
    near = difflib.get_close_matches(name.lower(), [*presets, *SIZES, *MODELS], n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "`lmworks model list` shows the names."
    raise LookupError(f"{name!r} is no preset, published size, pulled model, Hugging Face folder or .gguf file; {hint}")


def _tree(title: str, config: "ModelConfig") -> "Tree":
    from rich.tree import Tree

    from lmworks.model import description

    tree = Tree(f"[bold]{title}[/bold]", highlight=True)
    embeddings = [("embedding", config.embedding), ("decoder embedding", config.decoder_embedding)]
    for name, embedding in embeddings:
        if embedding is not None:
            words = [*description.embedding_words(embedding), description.position_words(embedding.positions)]
            words.append(description.norm_words(embedding.norm) if embedding.norm else "")
            tree.add(f"{name}: {', '.join(filter(None, words))}")
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack is not None:
            _add_stack(tree.add(name), stack, config.embedding.width)
    if config.head is not None:
        tree.add(", ".join(description.head_words(config.head)))
    return tree


def _add_stack(tree: "Tree", stack: "Stack", width: int) -> None:
    from lmworks.model import description

    for repeats, runs in description.fold(stack.blocks):
        group = tree.add(f"{repeats} ×") if repeats > 1 else tree
        for times, block in runs:
            norm = description.norm_words(block.norm)
            node = group.add(f"{f'{times} × ' if times > 1 else ''}block, {block.norm_at}, {norm}")
            for _, (title, *words) in description.block_parts(block, stack, width):
                node.add(f"{title}: {', '.join(words)}")
    if stack.final_norm is not None:
        tree.add(f"final {description.norm_words(stack.final_norm)}")


def _costs(config: "ModelConfig", context: int) -> str:
    from lmworks.model import model_costs

    total = model_costs.count_parameters(config)
    rows = [("parameters", f"{total:,}", "")]
    for part, size in model_costs.sizes_of_parts(config).items():
        rows.append((f"  {part}", f"{size.total:,}", f"{size.total / total:6.1%}"))
    active = model_costs.count_active_parameters(config)
    if active != total:
        rows.append(("parameters that a token meets", f"{active:,}", f"{active / total:6.1%}"))
    rows.append(("weights in bfloat16", f"{model_costs.weight_bytes(config):,}", "bytes"))
    flops = model_costs.flops_per_token(config, context)
    both = config.encoder is not None and config.decoder is not None
    token = "source and target token" if both else "token"
    rows.append((f"forward, per {token} of {context:,}", f"{flops:,}", "operations"))
    if config.decoder is not None:
        per_token, needed = model_costs.kv_bytes_per_token(config, 2), model_costs.kv_bytes(config, 2, context)
        rows.append(("keys and values in bfloat16, per token", f"{per_token:,}", "bytes"))
        rows.append((f"  needed at {context:,} tokens", f"{needed:,}", "bytes"))
    return "\n".join(f"{name:<44}{value:>18} {unit}" for name, value, unit in rows)
