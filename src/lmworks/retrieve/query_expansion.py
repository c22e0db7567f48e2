"""A question as it is searched, and queries that a language model adds for documents that say it in other words.

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
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.records import Message
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.index import Index
from lmworks.retrieve.late_interaction import project

Complete = Callable[[str], str]  # a prompt -> what the model writes
REWRITE = "Ask this question in {count} other ways: the same meaning in other words, one question on each line."
PASSAGE = "Write a short passage that answers the question."
_LONGEST = 128  # tokens that are written
_MARKS = re.compile(r"^\W*(?:\d+\s*[.):]\s*)?\W*|[\"'*_\s]+$")  # of a list, around a line


@dataclass(frozen=True, slots=True)
class Query:
    """A question as retrievers read it: `vector` (width,) float32, `tokens` (tokens, stored width) float32."""

    text: str
    vector: np.ndarray
    tokens: np.ndarray


def read_queries(index: Index, questions: Sequence[str], encoder: Encoder) -> list[Query]:
    """The questions with their vectors, by the encoder of the index."""
    vectors, tokens = encoder.encode_both(questions, "query")
    return [
        Query(text, np.asarray(vector, np.float32), project(rows, index.axes))
        for text, vector, rows in zip(questions, vectors, tokens, strict=True)
    ]


def expanded(
    index: Index, question: str, encoder: Encoder, config: SearchConfig, complete: Complete | None = None
) -> list[Query]:
    """The question as it is searched, and behind it the queries that were added.

    ValueError where `config` asks for more than the question, and there is no model. A warning where the model wrote
    fewer questions than were asked for.
    """
    check_model(config, {"expander": complete} if complete else {})
    variants = rewrites(question, config.rewrites, complete) if complete and config.rewrites else []
    query, *added = read_queries(index, [question, *variants], encoder)
    if complete and config.hypothetical:
        passage = complete(f"{PASSAGE}\n\nQuestion: {question}")
        vector = query.vector + encoder.encode([passage], "passage")[0]
        query = replace(query, vector=(vector / np.linalg.norm(vector)).astype(np.float32))
    return [query, *added]


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
    variants = {text.casefold(): text for text in reversed(texts) if text.casefold() != question.casefold()}
    if len(variants) < count:
        warnings.warn(f"the model asked {question!r} in {len(variants)} other ways, not in {count}", stacklevel=3)
    return list(reversed(variants.values()))[:count]
