"""POST /v1/score and /v1/rerank: how well texts fit together, by the kind of model that is named.

A reranker gives the probability that a passage answers a question (Nogueira and Cho 2019), a verifier the probability
that a statement follows from its evidence. An embedding model gives the cosine of the two vectors. A language model
gives the mean ln p of a token of the one text after the other; for documents, how probable they make the query (query
likelihood: Ponte and Croft 1998; with a model of this kind: Sachan et al. 2022). The answer says in `lmworks.method`
which of them it is, because their scales have nothing in common.
"""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from lmworks.serve.openai.errors import ApiError, Json, answers
from lmworks.serve.openai.models_endpoint import named_or_only
from lmworks.serve.openai.request_fields import NonEmpty, ShortText, Strict, Text
from lmworks.serve.openai.response_bodies import EmbeddingUsage, body_fields, fresh_id
from lmworks.serve.openai.sse_stream import respond
from lmworks.serve.served_models import ServedModel
from lmworks.serve.service import Service
from lmworks.serve.thread_offload import run_off_loop

TEXTS = 1000
Method = Literal["relevance", "entailment", "cosine", "log_probability"]
Texts = Annotated[list[NonEmpty], Field(min_length=1, max_length=TEXTS, fail_fast=True)]

router = APIRouter(tags=["relevance"])


class ScoreRequest(Strict):
    """One text, or a list, on each side: of one and many each of the many is scored, of equally many each pair."""

    model: Text
    text_1: NonEmpty | Texts
    text_2: NonEmpty | Texts
    user: Annotated[ShortText | None, Field(description="without effect: the log does not say who asked")] = None


class DocumentText(Strict):
    text: NonEmpty


class RerankRequest(Strict):
    model: Text | None = Field(default=None, description="the reranker that is served, when absent")
    query: NonEmpty
    documents: Annotated[list[NonEmpty | DocumentText], Field(min_length=1, max_length=TEXTS, fail_fast=True)]
    top_n: Annotated[int, Field(ge=1, description="how many of the best are returned; all, when absent")] | None = None
    return_documents: bool | None = Field(default=None, description="true is the default")


class ScoringMethod(BaseModel):
    """`relevance` and `entailment` are probabilities; `cosine` lies in [-1, 1]; `log_probability` is in nats per token,
    at most 0."""

    method: Method


class PairScore(BaseModel):
    object: Literal["score"] = "score"
    index: int
    score: float


class ScoreList(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PairScore]
    usage: EmbeddingUsage
    lmworks: ScoringMethod


class RankedText(BaseModel):
    text: str


class RankedDocument(BaseModel):
    """`index` is the place of the document in the request."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class Ranking(BaseModel):
    """The best document first; equal ones in the order of the request."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: EmbeddingUsage
    lmworks: ScoringMethod


@router.post("/v1/score", responses=answers(ScoreList))
async def score(body: ScoreRequest, request: Request) -> Response:
    """A score for each pair: how well its `text_2` fits to its `text_1`."""

    async def work(service: Service) -> Response:
        first, second = _paired(body.text_1, body.text_2)
        values, read = await _scores(service, service.models.named(body.model), first, second)
        answer = ScoreList(
            id=f"score-{fresh_id()}",
            created=int(time.time()),
            model=body.model,
            data=[PairScore(index=index, score=value) for index, value in enumerate(values)],
            **read,
        )
        return Json(body_fields(answer))

    return await respond(request, work)


@router.post("/v1/rerank", responses=answers(Ranking))
async def rerank(body: RerankRequest, request: Request) -> Response:
    """The documents in the order of their relevance to the query."""

    async def work(service: Service) -> Response:
        texts = [document if isinstance(document, str) else document.text for document in body.documents]
        model = named_or_only(service, body.model, "reranker")
        first, second = [body.query] * len(texts), texts
        if model.kind == "language":  # which document makes the query most probable
            first, second = [f"{text}\n" for text in texts], first
        elif model.kind == "verifier":  # which document proves the query
            first, second = texts, first
        values, read = await _scores(service, model, first, second)
        order = sorted(range(len(texts)), key=lambda index: -values[index])[: body.top_n]
        shown = body.return_documents is not False
        results = [
            RankedDocument(index=i, relevance_score=values[i], document=RankedText(text=texts[i]) if shown else None)
            for i in order
        ]
        answer = Ranking(id=f"rerank-{fresh_id()}", model=model.name, results=results, **read)
        return Json(answer.model_dump(exclude_none=True))

    return await respond(request, work)


def _paired(first: str | Sequence[str], second: str | Sequence[str]) -> tuple[list[str], list[str]]:
    firsts = [first] if isinstance(first, str) else list(first)
    seconds = [second] if isinstance(second, str) else list(second)
    if len(firsts) == 1:
        firsts *= len(seconds)
    elif len(seconds) == 1:
        seconds *= len(firsts)
    if len(firsts) != len(seconds):
        message = f"text_1 has {len(firsts)} texts and text_2 {len(seconds)}: give equally many, or one of them once"
        raise ApiError(400, message, "text_2", "invalid_value")
    return firsts, seconds


async def _scores(
    service: Service, model: ServedModel, first: list[str], second: list[str]
) -> tuple[list[float], dict[str, Any]]:
    """For each pair its score; and what was read, and what the scores are, as answers say it."""
    name = model.name
    if model.kind in ("reranker", "verifier"):
        pairs = list(zip(first, second, strict=True))
        with service.active_request():
            chances, tokens = await service.scoring.run(service.models.cross_encoder(name).judge, pairs)
        return chances.tolist(), _read(tokens, "relevance" if model.kind == "reranker" else "entailment")
    if model.kind == "language":
        worker = service.models.language(name)
        unique = list(dict.fromkeys((*first, *second)))  # one text next to a thousand is read once
        encoded = await run_off_loop(sum(map(len, unique)), worker.checkpoint.required_tokenizer.encode_batch, unique)
        ids = dict(zip(unique, encoded, strict=True))
        contexts, texts = [ids[text] for text in first], [ids[text] for text in second]
        with service.active_request():
            scores = await service.scoring.run(worker.score, contexts, texts, 0, service.models.adapter(name))
        return [score.mean for score in scores], _read(sum(map(len, (*contexts, *texts))), "log_probability")
    queries, passages = list(dict.fromkeys(first)), list(dict.fromkeys(second))  # each text is embedded once
    left, left_tokens = await service.embed(name, queries, "query")
    right, right_tokens = await service.embed(name, passages, "passage")
    rows, columns = ({text: row for row, text in enumerate(texts)} for texts in (queries, passages))
    values = [float(left[rows[query]] @ right[columns[passage]]) for query, passage in zip(first, second, strict=True)]
    return values, _read(left_tokens + right_tokens, "cosine")


def _read(tokens: int, method: Method) -> dict[str, Any]:
    return {
        "usage": EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
        "lmworks": ScoringMethod(method=method),
    }
