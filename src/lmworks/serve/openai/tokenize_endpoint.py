"""POST /tokenize and /detokenize: the ids that a model reads of a text or a conversation, as vLLM names them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from lmworks.generate.protocol import ParameterError
from lmworks.generate.request_state import TokenTexts
from lmworks.model.checkpoint import Checkpoint
from lmworks.serve.openai.errors import ApiError, Json, documented
from lmworks.serve.openai.generation_request import function_tools
from lmworks.serve.openai.models_endpoint import named_or_only
from lmworks.serve.openai.request_bodies import ChatMessage, to_messages
from lmworks.serve.openai.request_fields import TOOLS, FunctionTool, Strict, Text, TokenIds
from lmworks.serve.openai.response_bodies import body_fields, large_answer
from lmworks.serve.openai.sse_stream import respond
from lmworks.serve.service import Service
from lmworks.tokenizer.tokenizer import Tokenizer

router = APIRouter(tags=["tokens"])
_ERRORS = documented(400, 401, 403, 404, 413, 421, 429, 500, 503)
ModelName = Annotated[Text | None, Field(description="may be left out where one language model is served")]


class TokenizeRequest(Strict):
    """A text, as /v1/completions and /v1/embeddings read it, or a conversation, as /v1/chat/completions does.

    Special tokens in a text are text: their names are encoded letter by letter.
    """

    model: ModelName = None
    prompt: Text | None = None
    add_special_tokens: bool | None = Field(default=None, description="of a prompt: true frames it, as is the default")
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000, fail_fast=True)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=TOOLS)] | None = None
    add_generation_prompt: bool | None = Field(default=None, description="of messages; true is the default")
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ParameterError("prompt", "give either prompt or messages")
        if self.messages is None and (self.tools or self.add_generation_prompt is not None):
            name = "tools" if self.tools else "add_generation_prompt"
            raise ParameterError(name, f"{name} belongs to messages: give them instead of prompt")
        if self.prompt is None and self.add_special_tokens is not None:
            message = "add_special_tokens belongs to prompt: the template of a chat has its own"
            raise ParameterError("add_special_tokens", message)
        return self


class DetokenizeRequest(Strict):
    model: ModelName = None
    tokens: TokenIds


class Tokens(BaseModel):
    """`max_model_len` is how many tokens the model reads at most; `token_strs` the text of each token."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(BaseModel):
    prompt: str


@router.post("/tokenize", responses={200: {"model": Tokens}, **_ERRORS})
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """The ids of a text or of a conversation."""
    return await respond(request, lambda service: _tokens(service, body))


@router.post("/detokenize", responses={200: {"model": Detokenized}, **_ERRORS})
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """The text of ids, special tokens included."""

    async def work(service: Service) -> Response:
        tokenizer = _tokenizer(service, named_or_only(service, body.model, "language").name)
        if max(body.tokens) >= tokenizer.vocabulary_size:
            message = f"tokens: ids must lie in [0, {tokenizer.vocabulary_size})"
            raise ApiError(400, message, "tokens", "invalid_value")
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special=False)
        return Json(body_fields(Detokenized(prompt=text)))

    return await respond(request, work)


async def _tokens(service: Service, body: TokenizeRequest) -> Response:
    name = named_or_only(service, body.model, "language").name
    tokenizer = _tokenizer(service, name)
    if body.messages is not None:
        ids = await asyncio.to_thread(_rendered, service.models.language(name).checkpoint, body)
    else:
        ids = await asyncio.to_thread(tokenizer.encode, body.prompt or "", body.add_special_tokens is not False)
    texts, most = TokenTexts(tokenizer), service.models.named(name).context_length
    return await large_answer(
        len(ids),
        lambda: Tokens(
            count=len(ids),
            max_model_len=most,
            tokens=list(ids),
            token_strs=[texts[token] for token in ids] if body.return_token_strs else None,
        ),
    )


def _rendered(checkpoint: Checkpoint, body: TokenizeRequest) -> tuple[int, ...]:
    tools = function_tools([tool.function for tool in body.tools or ()])
    messages = to_messages(body.messages or ())
    return checkpoint.chat.render(messages, body.add_generation_prompt is not False, tools).ids


def _tokenizer(service: Service, name: str) -> Tokenizer:
    """The tokenizer of a model; the assistant has none of its own."""
    match service.models.named(name).kind:
        case "embedding":
            return service.models.encoder(name).tokenizer
        case "reranker" | "verifier":
            return service.models.cross_encoder(name).tokenizer
    return service.models.language(name).checkpoint.required_tokenizer
