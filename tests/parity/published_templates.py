"""Chat templates that others published, and programs of theirs that write prompts: fetched once, for tests alone.

They come with `pip` into the cache folder of lmworks, beside the weights, each in a folder of its own that nothing else
imports from.
"""

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

import wheels
from lmworks.model.download import PullError
from lmworks.records import Message

_REQUIREMENTS = {
    "trl": ["trl==1.16.0"],
    "transformers-4.40": ["transformers==4.40.2"],
    "fschat": ["fschat==0.2.36"],
    "mistral-common": [
        "mistral-common==1.8.5",
        "tiktoken==0.14.0",
        "regex==2026.11.19",
        "pydantic-extra-types==2.11.1",
        "pycountry==26.2.16",
    ],
}

# Family -> the file in trl's wheel that has its template as published.
_IN_TRL = {
    "llama3": "llama3",
    "llama3.1": "llama3_1",
    "qwen2.5": "qwen2_5",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma3": "gemma3",
    "phi3": "phi3",
}


@cache
def fetched(name: str) -> Path:
    """The folder with what the requirements of this name install, without their dependencies."""
    try:
        return wheels.fetched(f"oracles/{name}", _REQUIREMENTS[name], lambda wheel, folder: wheel.extractall(folder))
    except PullError as error:
        pytest.skip(f"needs {' '.join(_REQUIREMENTS[name])}: {error}")


def all_of_trl() -> dict[str, str]:
    """Templates of many families by the names of their files, half of them changed to mark what is trained."""
    files = sorted((fetched("trl") / "trl" / "chat_templates").glob("*.jinja"))
    return {file.stem: file.read_text("utf-8") for file in files}


def published() -> dict[str, str]:
    """Family -> the template of its checkpoints."""
    ours = {family: all_of_trl()[name] for family, name in _IN_TRL.items()}
    return {**ours, "llama2": _llama2()}


def _llama2() -> str:
    """What `transformers` used for Llama 2's tokenizers until templates lay beside the weights, without its prompt."""
    source = fetched("transformers-4.40") / "transformers" / "models" / "llama" / "tokenization_llama.py"
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        match node:
            case ast.Assign(targets=[ast.Name(id="template")], value=ast.Constant(value=str(text))):
                return text.replace("USE_DEFAULT_PROMPT", "false")
    raise AssertionError(f"no template in {source}")


def run(name: str, program: str, question: object) -> object:
    """What a program says, in a process of its own that sees only the folder `name` beside what is installed.

    The program finds the question as `question` and leaves its answer as `answer`, both JSON.
    """
    body = textwrap.dedent(program)
    source = f"import json, sys\nquestion = json.load(sys.stdin)\n{body}\njson.dump(answer, sys.stdout)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(fetched(name)), os.environ["PYTHONPATH"]])}
    done = subprocess.run(
        [sys.executable, "-c", source], input=json.dumps(question), capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


FASTCHAT = """
from fastchat.conversation import get_conv_template
answer = []
for name, system, contents in question:
    talk = get_conv_template(name)
    talk.set_system_message(system)
    for number, content in enumerate(contents):
        talk.append_message(talk.roles[number % 2], content)
    if len(contents) % 2:
        talk.append_message(talk.roles[1], None)
    answer.append(talk.get_prompt())
"""

MISTRAL = """
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
kinds = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage, "tool": ToolMessage}
answer = []
for version, rows, tools in question:
    last = rows[-1]["role"]
    mode = ValidationMode.finetuning if last == "assistant" else ValidationMode.test
    tokenizer = getattr(MistralTokenizer, version)()
    tokenizer._chat_completion_request_validator._mode = mode
    messages = [kinds[row["role"]].model_validate(row) for row in rows]
    request = ChatCompletionRequest(messages=messages, tools=tools or None)
    answer.append(tokenizer.encode_chat_completion(request).tokens)
"""


def rows_of(messages: Sequence[Message], parts: bool = False) -> list[Mapping[str, object]]:
    """Messages as `transformers` takes them; `parts`: each content as a list with one text."""
    rows = []
    for message in messages:
        content = [{"type": "text", "text": message.content}] if parts else message.content
        row: dict[str, object] = {"role": message.role, "content": content}
        row |= {"tool_calls": [dict(call) for call in message.tool_calls]} if message.tool_calls else {}
        row |= {"name": message.name} if message.name is not None else {}
        row |= {"tool_call_id": message.tool_call_id} if message.tool_call_id is not None else {}
        rows.append(row)
    return rows
