"""The stage `data.tokenize`, given a tokenizer: documents, or conversations, into token shards.

Finished shards are kept in `context.work`, so that a killed run continues after the last of them. They are the same for
any number of threads and whether or not the run was interrupted.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress, groupby
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, hash_fraction, write_text
from lmworks.corpus.balance.survey import origin_of, origins
from lmworks.corpus.documents import DOCUMENTS, open_documents
from lmworks.data.config import TokenizeConfig
from lmworks.data.conversations import CONVERSATIONS, Dialogue, conversation_files, read_dialogues
from lmworks.data.document_tokens import (
    Tokenized,
    framing_id,
    tokenize_conversations,
    tokenize_documents,
)
from lmworks.data.duplicate_rows import find_duplicates
from lmworks.data.row_formats import formats_read
from lmworks.data.token_dataset import INDEX, SUFFIX, TokenDataset, TokenWriter
from lmworks.excerpts import Passage, Piece
from lmworks.records import Document, RejectedRecord
from lmworks.report import Section, Table
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.special_tokens import with_more_special
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import CHAT_TEMPLATE

_SHOWN = 3  # documents, and conversations, that the report shows
_ENDS = 8  # tokens at either end of a document
_MOST = 1000  # tokens of an example of what is learned


def shard_documents(
    config: TokenizeConfig, context: StageContext, tokenizer: Tokenizer, turn_marks: Collection[str] = ()
) -> StageResult:
    """Shards of the one input with documents; ValueError when it holds none, or the tokenizer lacks what frames it.

    `turn_marks` are added tokens that no document may become, as it becomes no special one.
    """
    store = open_documents(context.input(DOCUMENTS))
    begin, end = framing_id(tokenizer, config.begin, "begin"), framing_id(tokenizer, config.end, "end")
    total = _count(zip(store.hashes(), origins(store.shards), strict=True), config, "documents")
    encoder = with_more_special(tokenizer, turn_marks)
    size = 0  # bytes of text that are written

    def read() -> Iterator[Document]:
        nonlocal size
        for document in store:
            if document_belongs(document.hash, origin_of(document.metadata), config):
                size += len(document.text.encode())
                yield document

    dataset = _write(
        *(config, context, tokenizer, read(), total, "documents"),
        lambda documents: tokenize_documents(documents, encoder, begin, end),
    )
    framing = (begin is not None) + (end is not None)
    of_text = dataset.tokens - framing * dataset.documents  # the tokens around each document stand for none of it
    metrics = {
        "documents": dataset.documents,
        "tokens": dataset.tokens,
        "bytes": size,
        "bytes_per_token": round(size / of_text, 4) if of_text else None,
        "shards": len(dataset.shards),
        "empty_documents": int((dataset.lengths <= framing).sum()),
        "vocabulary": dataset.index.vocabulary,
    }
    return StageResult(metrics=metrics, sections=(_section(config, dataset, tokenizer, metrics, "documents"),))


def shard_conversations(config: TokenizeConfig, context: StageContext, renderer: ChatRenderer) -> StageResult:
    """Shards of `config.conversations` and of those of inputs, with the mask of what is learned, and the chat template
    next to them.

    All of them are parsed before any is written: ValueError names the line of the first that cannot be trained on.
    """
    if renderer.turn_end is None:
        raise ValueError(
            "the chat template ends an answer with no special token, so that a model would never learn to stop: set "
            "family, such as family=chatml, or write the end of text after an answer in the template"
        )
    rejected: list[RejectedRecord] = []
    made = [folder / CONVERSATIONS for folder in context.inputs.values() if (folder / CONVERSATIONS).exists()]
    files = conversation_files(
        (*config.conversations, *(str(path.absolute()) for path in made)), context.base, rejected
    )
    formats, paths = Counter[str](), list[Path]()

    def read() -> Iterator[Dialogue]:
        for path, row in read_dialogues(files, formats):
            paths.append(path)
            yield row

    copies = find_duplicates(read())
    drawn = _within_quotas(paths, copies.hashes, config.quotas)
    total = _count(((side, None) for side in compress(copies.sides, drawn)), config, "conversations")
    here = [taken and belongs(side, config) for side, taken in zip(copies.sides, drawn, strict=True)]
    alike = f"of {len(drawn):,} rows {copies.equal:,} are copies of another, and {copies.near:,} say nearly the same"
    repeated = [f"{alike}: they weigh more, and are on one side where rows are held out"]
    if notes := "; ".join([*formats_read(formats), *(repeated if copies.equal or copies.near else ())]):
        context.progress(0, total, "conversations", note=notes)
    rows, counts = (row for _, row in compress(read_dialogues(files), here)), Counter[str]()
    # From the first row again also after an interruption: what is cut and left out is counted.
    texts = tokenize_conversations(rows, renderer, config.learn, config.length, counts)
    tokenizer = renderer.tokenizer
    dataset = _write(config, context, tokenizer, texts, total, "conversations", iter)
    write_text(context.output / CHAT_TEMPLATE, renderer.template.source)
    metrics = {
        "conversations": dataset.documents,
        "tokens": dataset.tokens,
        "learned_tokens": dataset.learned_tokens,
        "cut": counts["cut"],
        "too_long": counts["too_long"],
        "over_quota": len(drawn) - sum(drawn),
        "equal_rows": copies.equal,
        "near_equal_rows": copies.near,
        "shards": len(dataset.shards),
        "rejected": sum(item.count for item in rejected),
        "vocabulary": dataset.index.vocabulary,
    }
    reasons = {
        "cut": f"are cut behind an earlier answer, as they have more than length={config.length} tokens",
        "too_long": f"are left out, as their first exchange has more than length={config.length} tokens",
        "letters": "have the name of a special token in an answer, which is learned as letters: remove it there",
    }
    alarms = tuple(f"{counts[each]:,} of {total:,} conversations {reasons[each]}" for each in reasons if counts[each])
    section = _section(config, dataset, tokenizer, metrics, "conversations", rejected, alarms)
    section = replace(section, text=f"{section.text}. {notes}" if notes else section.text)
    return StageResult(metrics=metrics, sections=(section, learned_section(dataset, tokenizer)))


def _within_quotas(paths: Sequence[Path], hashes: Sequence[str], quotas: Mapping[str, int]) -> list[bool]:
    """Whether each row, of its file and hash, is among those that the quotas take: those of the lowest hashes."""
    taken = [True] * len(paths)
    for pattern, most in quotas.items():
        pool = [number for number, path in enumerate(paths) if path.match(pattern)]
        if not pool:
            files = ", ".join(dict.fromkeys(path.name for path in paths))
            raise ValueError(f"quotas: {pattern} matches no file of the conversations, which are {files}")
        for number in sorted(pool, key=hashes.__getitem__)[most:]:
            taken[number] = False
    return taken


def belongs(text_hash: str, config: TokenizeConfig) -> bool:
    """Whether the text of this SHA-256 is on the side that the config asks for."""
    return (hash_fraction(text_hash) < config.held_out) == (config.part == "held_out")


def document_belongs(text_hash: str, origin: str | None, config: TokenizeConfig) -> bool:
    """Whether a document is on the side that the config asks for; `origin` is the hash of the text that it copies.

    What is held out has each text once, as it came: no copies. A copy is trained on where the text that it was made
    from is, unless what it became is, to the letter, a text that is held out.
    """
    if origin is None:
        return belongs(text_hash, config)
    return config.part == "training" and belongs(origin, config) and belongs(text_hash, config)


def _count(texts: Iterator[tuple[str, str | None]], config: TokenizeConfig, unit: str) -> int:
    """How many of the texts, (hash, of a copy the hash of its origin), belong; ValueError for none."""
    total = sum(document_belongs(*each, config) for each in texts)
    if not total:
        share = f"held_out={config.held_out} leaves" if config.held_out else "there are"
        raise ValueError(
            f"{share} no {unit} for part={config.part}: give more of them, or another share of held_out to the stages "
            "of both parts"
        )
    return total


def _write(
    config: TokenizeConfig,
    context: StageContext,
    tokenizer: Tokenizer,
    texts: Iterator[Any],
    total: int,
    unit: str,
    convert: Callable[[Iterator[Any]], Iterator[Tokenized]],
) -> TokenDataset:
    """All `total` texts through `convert` into shards; those that an interrupted run wrote already are passed over."""
    (context.work / INDEX).unlink(missing_ok=True)  # of a run killed between its last shard and its end
    with TokenWriter(context.work, tokenizer.hash, tokenizer.vocabulary_size, config.shard_tokens) as writer:
        kept = done = len(writer.kept)
        if not all((text := next(texts, None)) is not None and text.hash == known for known in writer.kept):
            raise ValueError(f"an interrupted run left shards of other {unit}: delete {context.work}")
        for done, found in enumerate(convert(texts), start=kept + 1):
            writer.add(found.ids, found.hash, found.mask)
            context.progress(done, total, unit, kept)
        if not done:
            raise ValueError(f"the first exchange of no conversation fits into length={config.length}: raise it")
    for path in [*sorted(context.work.glob(f"tokens-*{SUFFIX}")), context.work / INDEX]:
        shutil.move(path, context.output / path.name)
    return TokenDataset(context.output)


# ---------------------------------------------------------------------------------------------------------------------
# The report


def _section(
    config: TokenizeConfig,
    dataset: TokenDataset,
    tokenizer: Tokenizer,
    metrics: Mapping[str, Any],
    unit: str,
    rejected: Sequence[RejectedRecord] = (),
    alarms: tuple[str, ...] = (),
) -> Section:
    text = f"{dataset.documents:,} {unit} are {dataset.tokens:,} tokens of the vocabulary {tokenizer.hash[:12]}…"
    if config.held_out and config.part == "training":
        text += f'; {config.held_out:.4g} of all are held out, for a stage with the same inputs and part = "held_out"'
    rows = tuple((name.replace("_", " "), value or 0) for name, value in metrics.items() if name != "vocabulary")
    tables = [Table(("what", "count"), rows), _first(dataset, tokenizer, unit)]
    if reasons := Counter(item.reason for item in rejected for _ in range(item.count)):
        tables.append(Table(("left out because", "files"), tuple(reasons.most_common()), "Nothing is skipped silently"))
    title = f"Tokens of {'held-out ' if config.part == 'held_out' else ''}{unit}"  # a build has several of these stages
    return Section(title, text, tuple(tables), alarms=alarms)


def _first(dataset: TokenDataset, tokenizer: Tokenizer, unit: str) -> Table:
    """How the first of them begin and end, read back from the shards."""
    rows = []
    for number in range(min(dataset.documents, _SHOWN)):
        ids = dataset.read(*dataset.offsets[number : number + 2].tolist()).tolist()
        parts = [ids] if len(ids) <= 2 * _ENDS else [ids[:_ENDS], ids[-_ENDS:]]
        pieces = ("│".join(tokenizer.decode([token], skip_special=False) for token in part) for part in parts)
        rows.append((number, len(ids), " … ".join(pieces).replace("\n", "⏎")))
    return Table((unit.removesuffix("s"), "tokens", "reads"), tuple(rows), f"The first {unit}, │ between tokens")


def learned_section(dataset: TokenDataset, tokenizer: Tokenizer) -> Section:
    """The share of tokens that is learned, and some conversations, from the first to the last, with these marked."""
    learned, last = dataset.learned_tokens, dataset.documents - 1
    passages = []
    for number in sorted({last * each // (_SHOWN - 1) for each in range(_SHOWN)}):
        start, stop = dataset.offsets[number : number + 2].tolist()
        ids, mask = dataset.read(start, stop).tolist(), dataset.mask(start, stop).tolist()
        note = f"{len(ids):,} tokens, {sum(mask):,} learned" + f", the first {_MOST:,} shown" * (len(ids) > _MOST)
        pieces = _pieces(ids[:_MOST], mask[:_MOST], tokenizer)
        passages.append(Passage(f"Conversation {number + 1:,} of {last + 1:,}", tuple(pieces), note))
    text = (
        f"{learned:,} of {dataset.tokens:,} tokens are learned ({learned / max(dataset.tokens, 1):.1%}): those "
        "underlined on green, each as what follows all before it. The others are read only. In a box: special tokens."
    )
    return Section("Learned tokens", text, passages=tuple(passages), page_only=True)


def _pieces(ids: Sequence[int], mask: Sequence[bool], tokenizer: Tokenizer) -> Iterator[Piece]:
    special, before = set(tokenizer.special_ids.values()), ""
    # A special token is a piece of its own. What is decoded with all before it keeps its spaces.
    for (learned, place), group in groupby(range(len(ids)), lambda n: (mask[n], n if ids[n] in special else -1)):
        text = tokenizer.decode(ids[: max(group) + 1], skip_special=False)
        change = ("learned special" if learned else "special") if place >= 0 else "learned" if learned else ""
        yield Piece(text[len(before) :], change)
        before = text
