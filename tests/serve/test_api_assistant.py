"""The grounded assistant through the official client."""

import re

import openai
import pytest
from tokenizers import Tokenizer

from kit.tables import for_each

QUESTION = "By when must I report a lost laptop?"


def ask(running, question=QUESTION, **options):
    messages = [{"role": "user", "content": question}]
    return running.client().chat.completions.create(model="assistant", messages=messages, **options)


def text_of(running, document):
    return running.http().get(f"/documents/{document}").text


def test_an_answer_carries_its_evidence(grounded, built_workspace):
    answer = ask(grounded)
    own = answer.lmworks
    assert not own["abstained"] and 0 < own["confidence"] <= 1
    (citation,) = [one for one in own["citations"] if one["number"] == 1]
    source = (built_workspace.parent / "docs" / "security.md").read_text("utf-8")
    assert citation["uri"].endswith("security.md")
    assert source[citation["start"] : citation["end"]] == citation["text"]
    assert citation["text"] in answer.choices[0].message.content and "[1]" in answer.choices[0].message.content
    assert {"cited"} <= {one["verdict"] for one in own["verdicts"]}
    assert own["nearest"][0]["text"] and own["lineage"]["index"]
    assert answer.id == f"chatcmpl-{own['interaction']}"


def test_a_stream_tells_its_progress_then_the_same_answer(grounded):
    whole = ask(grounded)
    chunks = list(ask(grounded, stream=True, stream_options={"include_usage": True}))
    told = [
        chunk.lmworks["progress"] for chunk in chunks if getattr(chunk, "lmworks", None) and "progress" in chunk.lmworks
    ]
    assert told == ["search", "measure", "decide"]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    last = chunks[-2]
    assert last.choices[0].finish_reason == "stop"
    assert last.lmworks["citations"] == whole.lmworks["citations"]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@for_each("question", [QUESTION, "Which orchestra plays the ninth symphony of Bruckner tonight?"])
def test_usage_counts_the_question_the_passages_and_the_answer(grounded, tiny_embedder_folder, question):
    answer, tokenizer = ask(grounded, question), Tokenizer.from_file(str(tiny_embedder_folder / "tokenizer.json"))
    logged = grounded.http().get(f"/api/interactions/{answer.lmworks['interaction']}").json()
    read = [question, *(passage["text"] for passage in logged["retrieved"])]
    asked = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in read)
    said = len(tokenizer.encode(answer.choices[0].message.content, add_special_tokens=False))
    *_, last = ask(grounded, question, stream=True, stream_options={"include_usage": True})
    response = grounded.client().responses.create(model="assistant", input=question).usage
    for usage in (answer.usage, last.usage):
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (asked, said, asked + said)
    for one in (response.input_tokens, response.output_tokens), (logged["input_tokens"], logged["output_tokens"]):
        assert one == (asked, said)


def test_what_the_documents_do_not_say_is_not_answered(grounded):
    answer = ask(grounded, "Which orchestra plays the ninth symphony of Bruckner tonight?")
    assert answer.lmworks["abstained"] and answer.lmworks["citations"] == []
    assert "cited" not in {one["verdict"] for one in answer.lmworks["verdicts"]}
    log = grounded.http().get(f"/log/{answer.lmworks['interaction']}").text
    assert re.findall('<span class="badge[^"]*">(cited|abstained)</span>', log) == ["abstained", "abstained"]
    assert answer.lmworks["nearest"]


def test_the_last_message_is_the_question(grounded):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What about flights?"},
        {"role": "assistant", "content": "They need approval."},
        {"role": "user", "content": QUESTION},
    ]
    answer = grounded.client().chat.completions.create(model="assistant", messages=messages)
    assert answer.choices[0].message.content == ask(grounded).choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="last message"):
        grounded.client().chat.completions.create(model="assistant", messages=messages[:3])


def test_what_clients_always_send_has_no_effect(grounded):
    plain = ask(grounded)
    sent = ask(grounded, temperature=1.5, top_p=0.1, max_tokens=3, seed=4, frequency_penalty=0, n=1, logprobs=False)
    assert sent.choices[0].message.content == plain.choices[0].message.content


@for_each(
    ("param", "value"), [("n", 2), ("logprobs", True), ("stop", "x"), ("presence_penalty", 1), ("logit_bias", {"1": 2})]
)
@for_each("stream", [False, True])
def test_what_shapes_sampled_text_is_refused(grounded, param, value, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(grounded, stream=stream, **{param: value})
    assert caught.value.param == param and "assistant" in caught.value.message


def test_it_completes_no_text_and_embeds_nothing(grounded):
    with pytest.raises(openai.BadRequestError, match="chat"):
        grounded.client().completions.create(model="assistant", prompt="a")
    with pytest.raises(openai.NotFoundError):
        grounded.client().embeddings.create(model="assistant", input="a")
    with pytest.raises(openai.BadRequestError, match="empty"):
        ask(grounded, "  ")


def test_feedback_is_kept_with_the_interaction(grounded):
    identifier, http = ask(grounded).lmworks["interaction"], grounded.http()
    path = f"/api/interactions/{identifier}"
    assert http.post(f"{path}/feedback", json={"value": "down", "reason": "too short"}).status_code == 204
    assert http.post(f"{path}/feedback", json={"value": "up"}).status_code == 204
    assert http.post(f"{path}/notes", json={"text": "look at <b>this</b>", "author": "me"}).status_code == 204
    logged = http.get(path).json()
    assert [(one["kind"], one["value"], one["text"]) for one in logged["feedback"]] == [
        ("thumbs", "down", "too short"),
        ("thumbs", "up", ""),
        ("note", None, "look at <b>this</b>"),
    ]
    assert logged["route"] == "assistant" and logged["verdicts"]
