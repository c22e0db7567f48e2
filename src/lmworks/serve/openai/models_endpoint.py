"""GET /v1/models and /v1/models/{id}."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from lmworks.serve.openai.errors import ApiError, Json, documented, from_exception
from lmworks.serve.openai.response_bodies import Model, ModelList, body_fields
from lmworks.serve.served_models import Kind, ServedModel
from lmworks.serve.service import Service

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", responses={200: {"model": ModelList}, **documented(401, 421, 429, 500)})
async def list_models(request: Request) -> Response:
    """The models that can be asked for; none while they are being loaded."""
    service: Service = request.app.state.service
    return Json(body_fields(ModelList(data=[_model(model) for model in service.models])))


@router.get("/v1/models/{name:path}", responses={200: {"model": Model}, **documented(401, 404, 421, 429, 500, 503)})
async def retrieve_model(name: str, request: Request) -> Response:
    """One model by its name."""
    service: Service = request.app.state.service
    try:
        return Json(body_fields(_model(service.models.named(name))))
    except Exception as error:
        return from_exception(error).response()


def named_or_only(service: Service, name: str | None, kind: Kind) -> ServedModel:
    """The model that is named, else the only one of a kind; ApiError where there is none or several."""
    if name is None:
        names = [model.name for model in service.models if model.kind == kind]
        if service.state == "ready" and len(names) != 1:
            raise ApiError(400, f"model is missing: name one of {', '.join(names) or 'those of /v1/models'}", "model")
        name = names[0] if names else ""
    return service.models.named(name)


def _model(model: ServedModel) -> Model:
    return Model(
        id=model.name,
        created=model.created,
        kind=model.kind,
        context_length=model.context_length,
        fingerprint=model.fingerprint,
    )
