"""POST /v1/embeddings."""

import asyncio
import base64

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from lmworks.serve.openai.errors import ApiError, Json, answers
from lmworks.serve.openai.request_bodies import EmbeddingRequest
from lmworks.serve.openai.response_bodies import Embedding, EmbeddingList, EmbeddingUsage, body_fields
from lmworks.serve.openai.sse_stream import respond
from lmworks.serve.service import Service

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/embeddings", responses=answers(EmbeddingList))
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """Vectors of length 1 for texts, in their order."""
    return await respond(request, lambda service: _embed(service, body))


async def _embed(service: Service, body: EmbeddingRequest) -> Response:
    width = service.models.encoder(body.model).width
    if body.dimensions not in (None, width):
        raise ApiError(
            400,
            f"dimensions must be {width}: the vectors of {body.model} lose their meaning when they are cut",
            "dimensions",
            "unsupported_parameter",
        )
    texts = [body.input] if isinstance(body.input, str) else list(body.input)
    vectors, tokens = await service.embed(body.model, texts)
    return await asyncio.to_thread(_answer, body, vectors, tokens)  # a million numbers to write: not on the event loop


def _answer(body: EmbeddingRequest, vectors: np.ndarray, tokens: int) -> Response:
    answer = EmbeddingList(
        data=[Embedding(index=row, embedding=_encoded(vector, body)) for row, vector in enumerate(vectors)],
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )
    return Json(body_fields(answer))


def _encoded(vector: np.ndarray, body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode("ascii")
    return vector.tolist()
