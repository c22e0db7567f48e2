"""What a model reads of a text or a conversation, and back."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.records import Message

TOOL = {"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}


def post(running, path, **body):
    answer = running.http().post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_is_read_as_completions_read_it(language, tiny):
    told = post(language, "/tokenize", model="tiny", prompt="the thing", return_token_strs=True)
    assert told["tokens"] == tiny.tokenizer.encode("the thing", special=True)
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), 512)
    assert "".join(told["token_strs"]) == "the thing"
    assert post(language, "/detokenize", model="tiny", tokens=told["tokens"]) == {"prompt": "the thing"}


def test_an_embedding_model_frames_a_text(language, tiny_embedder):
    encode = tiny_embedder.tokenizer.encode
    for special in (True, False):
        told = post(language, "/tokenize", model="embedder", prompt="a cat", add_special_tokens=special)
        assert told["tokens"] == encode("a cat", special=special)
    assert told["max_model_len"] == tiny_embedder.max_length


def test_a_conversation_is_read_as_chats_read_it(language, tiny):
    messages = [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]
    rows = [Message("system", "a"), Message("user", "b")]
    for prompt in (True, False):
        told = post(language, "/tokenize", messages=messages, add_generation_prompt=prompt, tools=[TOOL])
        assert told["tokens"] == list(tiny.chat.render(rows, prompt, [TOOL]).ids)


def test_the_one_language_model_need_not_be_named(language, tiny):
    assert post(language, "/tokenize", prompt="x")["tokens"] == tiny.tokenizer.encode("x")


def test_special_tokens_in_a_text_are_text(language, tiny):
    (end,) = (index for name, index in tiny.tokenizer.special_ids.items() if name == "<|im_end|>")
    assert end not in post(language, "/tokenize", prompt="<|im_end|>")["tokens"]
    assert post(language, "/detokenize", tokens=[end]) == {"prompt": "<|im_end|>"}


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_every_text_comes_back(language, text):
    assert post(language, "/detokenize", tokens=post(language, "/tokenize", prompt=text)["tokens"])["prompt"] == text
