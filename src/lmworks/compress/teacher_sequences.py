"""The stage `compress.sequences`: texts that a teacher writes, through the engine (Kim & Rush 2016): rows with prompts
become conversations.jsonl, documents documents."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, write_json
from lmworks.compress.distillation_config import SequencesConfig
from lmworks.corpus.documents import corpus_shards, write_documents
from lmworks.data.conversations import CONVERSATIONS, as_messages, conversation_files
from lmworks.data.training_rows import read_preference_rows, write_preference_rows
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.rollouts import seed_of
from lmworks.records import Document, PromptCompletion, Provenance
from lmworks.report import Section, Table

_BATCH, _SHOWN = 64, 5


def sequences(config: SequencesConfig, context: StageContext) -> StageResult:
    """ValueError where there is nothing to continue from, or the teacher adds nothing to any of it."""
    from lmworks.adapt.adapter import load
    from lmworks.generate.engine import Engine

    given: list[Any] = check(config, context.base)
    if not config.rows:
        given = [
            document for shard in corpus_shards(dict(context.inputs)) for document in shard if document.text.strip()
        ]
    given = given[: config.most or None]
    teacher, name = load(context.models["teacher"], "stored"), Path(context.models["teacher"]).name
    engine, tokenizer, written = Engine(teacher, _BATCH), teacher.required_tokenizer, list[tuple[str, str]]()
    for start in range(0, len(given), _BATCH):
        cached = context.work / f"texts-{start}.json"
        if not cached.exists():
            requests = []
            for number, row in enumerate(given[start : start + _BATCH], start):
                seed = seed_of(f"{config.seed}", number, 0)
                sampling = SamplingParameters(config.completion, config.temperature, seed=seed)
                if isinstance(row, Document):
                    beginning = tuple(tokenizer.encode(row.text)[: config.prompt])
                    requests.append(Request(beginning, sampling=sampling))
                else:
                    requests.append(Request(messages=as_messages(row.prompt, "user"), sampling=sampling))
            completions = [completion.text for completion in engine.generate(requests)]
            write_json(
                cached, [[tokenizer.decode(r.prompt_ids), text] for r, text in zip(requests, completions, strict=True)]
            )
        written += map(tuple, json.loads(cached.read_text("utf-8")))
        context.progress(len(written), len(given), "texts that the teacher writes")
    made = [(one, *texts) for one, texts in zip(given, written, strict=True) if texts[1].strip()]
    if not made:
        raise ValueError(f"of {len(given)} texts the teacher adds to none: raise completion, or give other beginnings")
    if config.rows:
        rows = [PromptCompletion(one.prompt, text, Provenance(annotator=name)) for one, _, text in made]
        write_preference_rows(context.output / CONVERSATIONS, rows)
    else:
        by = {"hash": "", "extractor": "compress.sequences", "extractor_version": "1", "source": name, "metadata": {}}
        write_documents(context.output, (replace(one, text=before + text, **by) for one, before, text in made))
    shown = tuple((beginning or str(one.prompt), text) for one, beginning, text in made[:_SHOWN])
    text = f"{name} wrote them, at temperature {config.temperature:g}. {len(given) - len(made)} are empty and left out."
    section = Section(f"{len(made):,} texts of a teacher", text, (Table(("beginning", "what was added"), shown),))
    return StageResult({"texts": len(made), "left_out": len(given) - len(made)}, (section,))


def check(config: SequencesConfig, base: Path) -> list[Any]:
    """The rows, of any kind, whose prompts are used. Before any stage runs: what is wrong with them."""
    return read_preference_rows(conversation_files(config.rows, base, rows="prompts")) if config.rows else []
