"""Queries that a language model adds to a question, for documents that say it in other words.

multi-query   the model asks the question in other words; what any of the queries finds is ranked by the mean of its
              scores under all of them (Belkin, Kantor, Fox & Shaw 1995, "Combining the evidence of multiple query
              representations for information retrieval")
HyDE          the model writes a passage as if it answered; the mean of its vector and the question's is what the
              cosine is taken with (Gao et al. 2022, "Precise Zero-Shot Dense Retrieval without Relevance Labels",
              section 3.2)

The model comes as a function from a prompt to a text. Neither is on by default:
docs/measured/retrieval.md has the figures.
"""

import re
import warnings
from collections.abc import Callable, Container
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.records import Message
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.index import Index
from lmworks.retrieve.late_interaction import project

if TYPE_CHECKING:
    from lmworks.retrieve.search import Query

Complete = Callable[[str], str]  # a prompt -> what the model writes
REWRITE = "Ask this question in {count} other ways: the same meaning in other words, one question on each line."
PASSAGE = "Write a short passage that answers the question."
_LONGEST = 128  # tokens that are written
_MARKS = re.compile(r"^\W*(?:\d+\s*[.):]\s*)?\W*|[\"'*_\s]+$")  # of a list, around a line


def expanded(
    index: Index, query: "Query", encoder: Encoder, config: SearchConfig, complete: Complete | None
) -> "tuple[Query, ...]":
    """The question as it is searched, and behind it the queries that were added.

    ValueError where `config` asks for more than the question, and there is no model. A warning where the model wrote
    fewer questions than were asked for.
    """
    check_model(config, {"expander": complete} if complete else {})
    if complete is None or not config.expands:
        return (query,)
    others: list[Query] = []
    if texts := rewrites(query.text, config.rewrites, complete) if config.rewrites else []:
        for text, vector, tokens in zip(texts, *encoder.encode_both(texts, "query"), strict=True):
            own = project(tokens, index.axes)
            others.append(replace(query, text=text, vector=np.asarray(vector, np.float32), tokens=own))
    if config.hypothetical:
        passage = complete(f"{PASSAGE}\n\nQuestion: {query.text}")
        vector = query.vector + encoder.encode([passage], "passage")[0]
        query = replace(query, vector=(vector / np.linalg.norm(vector)).astype(np.float32))
    return (query, *others)


def completer(engine: Callable[[], EngineProtocol]) -> Complete:
    """The function of a language model, which `engine` gives: what it writes, greedily, as its answer to a prompt."""
    sampling = SamplingParameters(max_tokens=_LONGEST)
    return lambda text: engine().generate([Request(messages=(Message("user", text),), sampling=sampling)])[0].text


def check_model(config: SearchConfig, roles: Container[str]) -> None:
    """ValueError for a search that needs a language model and has none."""
    if config.expands and "expander" not in roles:
        raise ValueError(
            "search.rewrites and search.hypothetical need a model that writes: name one in the role expander, such as "
            '[models] expander = "qwen2.5-coder-1.5b-instruct"'
        )


def rewrites(question: str, count: int, complete: Complete) -> list[str]:
    """At most `count` other ways to ask a question; a warning where the model wrote fewer."""
    lines = complete(f"{REWRITE.format(count=count)}\n\nQuestion: {question}").splitlines()
    texts = [_MARKS.sub("", line) for line in lines if not line.rstrip().endswith(":")]
    texts = [text for text in texts if text and text.endswith("?") >= question.rstrip().endswith("?")]  # no answers
    found = {text.casefold(): text for text in reversed(texts) if text.casefold() != question.casefold()}
    if len(found) < count:
        warnings.warn(f"the model asked {question!r} in {len(found)} other ways, not in {count}", stacklevel=3)
    return list(reversed(found.values()))[:count]
