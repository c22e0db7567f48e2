"""What chats and responses ask alike: of which model, the functions that it may call, and the form of its answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmworks.generate.constraint import Constraint, FunctionCalls
from lmworks.serve.openai import sampling_fields
from lmworks.serve.openai.request_bodies import ChatRequest
from lmworks.serve.openai.response_format import AnswerFormat, answer_of, with_calls
from lmworks.serve.openai.responses_api.response_requests import ChosenFunction, ResponseRequest
from lmworks.serve.openai.tool_fields import ChosenTool, FunctionTool
from lmworks.serve.openai.tools import Toolbox, toolbox
from lmworks.serve.service import Service
from lmworks.tokenizer.tool_calls import Tool


@dataclass(frozen=True, slots=True)
class Asked:
    """The functions that the model is told of, and what holds its answer."""

    tools: tuple[Tool, ...]
    constraint: Constraint | None

    @property
    def calls(self) -> FunctionCalls | None:
        """As which calls are read in the answer; None where there can be none."""
        return self.constraint if isinstance(self.constraint, FunctionCalls) else None


def asked(
    service: Service,
    body: ChatRequest | ResponseRequest,
    wanted: AnswerFormat | None,
    further: Mapping[str, bool],
) -> Asked:
    """What a request asks of its model.

    wanted   the form of the answer, `response_format` or `text.format`.
    further  as `refuse_for_assistant` takes it.

    ApiError for what contradicts itself, and for what the grounded assistant does not do; UnknownModelError.
    """
    if service.served(body.model).kind == "assistant":
        sampling_fields.refuse_for_assistant(body, further)
    box = _toolbox(body)
    form = service.language(body.model).checkpoint.chat.tool_form if box else None
    answer = answer_of(wanted, body.structured_outputs)
    return Asked(box.tools if box else (), with_calls(answer, box, form))


def _toolbox(body: ChatRequest | ResponseRequest) -> Toolbox | None:
    """The two APIs differ in where a function's definition, and the name of the chosen one, lie."""
    functions = [tool.function if isinstance(tool, FunctionTool) else tool for tool in body.tools or ()]
    match body.tool_choice:
        case ChosenTool(function=function):
            return toolbox(functions, None, function.name, body.parallel_tool_calls)
        case ChosenFunction(name=name):
            return toolbox(functions, None, name, body.parallel_tool_calls)
        case mode:
            return toolbox(functions, mode, None, body.parallel_tool_calls)
