"""Documents into shards: what stands in them, what is counted, and the same bytes after an interruption."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from byte_tokenizer import byte_tokenizer
from lmworks.artefact import StageContext
from lmworks.data.config import TokenizeConfig
from lmworks.model.stage_tokenize import tokenize
from lmworks.data.store import write_documents
from lmworks.data.token_dataset import INDEX, TokenDataset
from lmworks.data.tokenising import framing_id, tokenize_conversations, tokenize_documents
from lmworks.records import Conversation, Document, Message
from lmworks.tokenizer.chat import ChatRenderer

TEXTS = ["one text", "", "größer 🙂", *(f"text number {n} " * (n % 7) for n in range(40))]
DOCUMENTS = [Document(text, f"uri {n}", "text/plain", "plain", "1", "0" * 64) for n, text in enumerate(TEXTS)]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def context(tmp_path, tiny_tokenizer) -> StageContext:
    inputs = {}
    for name in ("documents", "vocabulary"):
        inputs[name] = tmp_path / name
        inputs[name].mkdir()
    write_documents(inputs["documents"], DOCUMENTS)
    tiny_tokenizer.save(inputs["vocabulary"])
    return fresh(StageContext(inputs, tmp_path, tmp_path), tmp_path, "first")


def fresh(context: StageContext, root: Path, name: str) -> StageContext:
    output, work = root / name / "output", root / name / "work"
    output.mkdir(parents=True)
    work.mkdir()
    return replace(context, output=output, work=work)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_each_text_and_its_end(context, tiny_tokenizer):
    result = tokenize(TokenizeConfig(shard_tokens=100), context)
    dataset = TokenDataset(context.output)
    dataset.verify()
    assert dataset.index.vocabulary == tiny_tokenizer.hash
    assert len(dataset.shards) > 3
    for number, document in enumerate(DOCUMENTS):
        ids = dataset.read(dataset.offsets[number], dataset.offsets[number + 1]).tolist()
        assert ids == [*tiny_tokenizer.encode(document.text), tiny_tokenizer.eos_id]
        assert tiny_tokenizer.decode(ids) == document.text
        assert dataset.document_hash(number) == document.hash
    size = sum(len(text.encode()) for text in TEXTS)
    assert result.metrics["documents"] == len(TEXTS)
    assert result.metrics["tokens"] == dataset.tokens
    assert result.metrics["bytes"] == size
    assert result.metrics["bytes_per_token"] == pytest.approx(size / (dataset.tokens - len(TEXTS)), abs=1e-4)
    assert result.metrics["empty_documents"] == sum(not text for text in TEXTS)
    assert list(context.work.iterdir()) == []


def test_an_interrupted_run_goes_on_and_makes_the_same_bytes(context, tmp_path, monkeypatch):
    monkeypatch.setattr("lmworks.data.tokenising.TOGETHER", 30)
    config = TokenizeConfig(shard_tokens=60)
    tokenize(config, context)
    stopped = fresh(context, tmp_path, "second")

    def stop_at(done, total, unit, kept=0):
        assert (total, unit) == (len(TEXTS), "documents")
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(config, replace(stopped, progress=stop_at))
    assert list(stopped.output.iterdir()) == []
    kept = len(list(stopped.work.glob("tokens-*.bin")))
    assert kept > 1
    told = []
    tokenize(config, replace(stopped, progress=lambda done, total, unit, kept=0: told.append((done, kept))))
    assert files(stopped.output) == files(context.output)
    assert told[0][1] > 0
    assert [done for done, _ in told] == list(range(told[0][1] + 1, len(TEXTS) + 1))


def test_a_run_killed_while_it_moved_its_shards_starts_again(context, tmp_path):
    config = TokenizeConfig(shard_tokens=60)
    tokenize(config, context)
    killed = fresh(context, tmp_path, "second")
    for name, content in files(context.output).items():
        if name != "tokens-00000.bin":
            (killed.work / name).write_bytes(content)
    assert (killed.work / INDEX).exists()
    tokenize(config, killed)
    assert files(killed.output) == files(context.output)


def test_shards_of_other_documents_are_not_continued(context, tmp_path):
    config = TokenizeConfig(shard_tokens=60)
    tokenize(config, context)
    other = fresh(context, tmp_path, "second")
    for name, content in files(context.output).items():
        (other.work / name).write_bytes(content)
    write_documents(context.inputs["documents"], DOCUMENTS[::-1])
    with pytest.raises(ValueError, match=f"other documents: delete {re.escape(str(other.work))}"):
        tokenize(config, other)


def test_no_documents_are_an_error(context):
    write_documents(context.inputs["documents"], [])
    with pytest.raises(ValueError, match="holds no documents"):
        tokenize(TokenizeConfig(), context)


def test_groups_of_any_size_give_the_same_ids(tiny_tokenizer, monkeypatch):
    whole = [found.ids.tolist() for found in tokenize_documents(DOCUMENTS, tiny_tokenizer, 1, None)]
    assert whole == [[1, *tiny_tokenizer.encode(text)] for text in TEXTS]
    for together in (1, 50):
        monkeypatch.setattr("lmworks.data.tokenising.TOGETHER", together)
        assert [found.ids.tolist() for found in tokenize_documents(DOCUMENTS, tiny_tokenizer, 1, None)] == whole


def test_the_end_is_a_choice_where_there_is_no_role_for_it(tiny_tokenizer):
    assert framing_id(tiny_tokenizer, "eos_token") == tiny_tokenizer.eos_id
    assert framing_id(tiny_tokenizer, "<|endoftext|>") == tiny_tokenizer.special_ids["<|endoftext|>"]
    assert framing_id(tiny_tokenizer, "none") is None
    bare = byte_tokenizer({"unk_token": "<|unknown|>"})
    with pytest.raises(ValueError, match=r'no role eos_token\. Set end to one .*\(<\|unknown\|>\).* or end="none"'):
        framing_id(bare, "eos_token")
    with pytest.raises(ValueError, match="no token <end>"):
        framing_id(bare, "<end>")
    with pytest.raises(ValueError, match="begin=bos_token: .* Set begin to"):
        framing_id(bare, "bos_token", "begin")


def test_conversations_keep_the_mask_of_their_chat_template(tiny_tokenizer):
    renderer = ChatRenderer(TEMPLATE, tiny_tokenizer)
    talk = Conversation((Message("user", "the thing"), Message("assistant", "in the end")))
    (found,) = tokenize_conversations([talk], renderer)
    rendered = renderer.render(talk.messages)
    assert found.ids.tolist() == list(rendered.ids)
    assert found.mask is not None
    assert found.mask.tolist() == list(rendered.training_mask)
    assert tiny_tokenizer.decode(found.ids[found.mask].tolist(), skip_special=False) == "in the end<|im_end|>"
    (ended,) = tokenize_conversations([talk], renderer, end=0)
    assert ended.mask is not None
    assert (ended.ids[-1], ended.mask[-1]) == (0, np.True_)
    assert len(found.hash) == 64
    (other,) = tokenize_conversations([Conversation(talk.messages[:1])], renderer)
    assert other.hash != found.hash
