"""Documents into shards: what stands in them, what is counted, and the same bytes after an interruption."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken

from byte_tokenizer import byte_tokenizer
from lmworks.artefact import StageContext
from lmworks.corpus.documents import write_documents
from lmworks.corpus.sources.files import NoSourceError
from lmworks.data.config import TokenizeConfig
from lmworks.data.document_tokens import framing_id
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import load
from lmworks.model.gguf_write import save_gguf
from lmworks.model.stage_tokenize import check, outside_digest, tokenize
from lmworks.records import Document, Message
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.chat_templates import chat_template
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import read_chat_template
from tiny_system import tiny_language_model

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


def read_instead(context: StageContext, documents: list[Document]) -> None:
    """Other documents in place of those of the fixture."""
    folder = context.inputs["documents"]
    shutil.rmtree(folder)
    folder.mkdir()
    write_documents(folder, documents)


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
    shown = result.sections[0].tables[1].rows
    assert [row[1] for row in shown] == dataset.lengths[:3].tolist()
    assert shown[0][2].replace("│", "") == "one text<|im_end|>" and "│" in shown[0][2]
    assert shown[1] == (1, 1, "<|im_end|>")


def test_an_interrupted_run_goes_on_and_makes_the_same_bytes(context, tmp_path, monkeypatch):
    monkeypatch.setattr("lmworks.data.document_tokens.TOGETHER", 30)
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


def test_shards_of_other_documents_are_not_continued(context, tmp_path):
    config = TokenizeConfig(shard_tokens=60)
    tokenize(config, context)
    other = fresh(context, tmp_path, "second")
    for name, content in files(context.output).items():
        (other.work / name).write_bytes(content)
    read_instead(context, DOCUMENTS[::-1])
    with pytest.raises(ValueError, match=f"other documents: delete {re.escape(str(other.work))}"):
        tokenize(config, other)


def test_the_end_is_a_choice_where_there_is_no_role_for_it(tiny_tokenizer):
    assert framing_id(tiny_tokenizer, "eos_token") == tiny_tokenizer.eos_id
    assert framing_id(tiny_tokenizer, "<|endoftext|>") == tiny_tokenizer.special_ids["<|endoftext|>"]
    assert framing_id(tiny_tokenizer, "none") is None
    bare = byte_tokenizer({"unk_token": "<|unknown|>"})
    with pytest.raises(ValueError, match=r'no role eos_token\. Set end to one .*\(<\|unknown\|>\).* or end="none"'):
        framing_id(bare, "eos_token")
    with pytest.raises(ValueError, match="no token <end>"):
        framing_id(bare, "<end>")
    with pytest.raises(ValueError, match=r"begin=bos_token: .* Set begin to"):
        framing_id(bare, "bos_token", "begin")


# ---------------------------------------------------------------------------------------------------------------------
# Vocabularies that no stage made


def without_vocabulary(context: StageContext) -> StageContext:
    return replace(context, inputs={"documents": context.inputs["documents"]}, base=context.inputs["documents"].parent)


@pytest.mark.parametrize("name", ["vocabulary", "vocabulary/tokenizer.json"])
def test_a_tokenizer_may_be_named_instead_of_an_input(context, tmp_path, tiny_tokenizer, name):
    tokenize(TokenizeConfig(), context)
    named = without_vocabulary(fresh(context, tmp_path, "second"))
    result = tokenize(TokenizeConfig(tokenizer=name), named)
    assert files(named.output) == files(context.output)
    assert result.metrics["vocabulary"] == tiny_tokenizer.hash


def test_a_model_as_a_folder_and_as_a_file_make_shards_of_its_vocabulary(context, tmp_path, tiny_tokenizer):
    """The shards are known by the hash that the checkpoint's own tokenizer has, whatever its files are."""
    model = tiny_language_model(tiny_tokenizer)
    for path in (model.save(tmp_path / "folder"), save_gguf(model, tmp_path / "model.gguf")):
        given = without_vocabulary(fresh(context, tmp_path, f"run of {path.name}"))
        tokenize(TokenizeConfig(tokenizer=str(path)), given)
        dataset = TokenDataset(given.output)
        text = dataset.read(dataset.offsets[2], dataset.offsets[3]).tolist()
        assert text == [*tiny_tokenizer.encode(TEXTS[2]), tiny_tokenizer.eos_id]
        assert dataset.index.vocabulary == load(path).tokenizer.hash


def test_no_vocabulary_and_two_are_errors_that_name_the_fix(context, tmp_path):
    with pytest.raises(ValueError, match=r'no vocabulary: .* for example tokenizer="smollm2-135m-instruct"'):
        tokenize(TokenizeConfig(), without_vocabulary(context))
    with pytest.raises(ValueError, match="two vocabularies: leave out the setting tokenizer=vocabulary or the input"):
        tokenize(TokenizeConfig(tokenizer="vocabulary"), context)
    shutil.copytree(context.inputs["vocabulary"], tmp_path / "other")
    with pytest.raises(ValueError, match="two vocabularies: leave out one of the inputs"):
        tokenize(TokenizeConfig(), replace(context, inputs=context.inputs | {"other": tmp_path / "other"}))
    with pytest.raises(LookupError, match="did you mean smollm2-135m-instruct"):
        check(TokenizeConfig(tokenizer="smolm2-135m-instruct"), tmp_path)
    assert list(context.output.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Conversations

TALKS = [
    {"messages": [{"role": "user", "content": f"the {n}"}, {"role": "assistant", "content": f"in {n}"}]}
    for n in range(20)
]


@pytest.fixture
def talks(context, tmp_path, tiny_tokenizer) -> StageContext:
    folder = tmp_path / "talks"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, TALKS)) + "\n\n", "utf-8")
    (folder / "notes.txt").write_text("no conversation")
    tiny_tokenizer.save(context.inputs["vocabulary"], chat_template=TEMPLATE)
    return replace(context, inputs={"vocabulary": context.inputs["vocabulary"]}, base=tmp_path)


def test_conversations_become_shards_with_the_mask_of_the_assistant(talks, tiny_tokenizer):
    result = tokenize(TokenizeConfig(conversations=("talks",), shard_tokens=200), talks)
    dataset = TokenDataset(talks.output)
    dataset.verify()
    renderer = ChatRenderer(TEMPLATE, tiny_tokenizer)
    assert dataset.documents == len(TALKS) and len(dataset.shards) > 2
    for number, talk in enumerate(TALKS):
        start, stop = dataset.offsets[number], dataset.offsets[number + 1]
        rendered = renderer.render([Message(**message) for message in talk["messages"]])
        assert dataset.read(start, stop).tolist() == list(rendered.ids)
        assert dataset.mask(start, stop).tolist() == list(rendered.training_mask)
        learned = dataset.read(start, stop)[dataset.mask(start, stop)].tolist()
        assert tiny_tokenizer.decode(learned, skip_special=False) == f"in {number}<|im_end|>"
    assert dataset.index.vocabulary == tiny_tokenizer.hash
    assert result.metrics["conversations"] == len(TALKS) and result.metrics["left_out"] == 1
    assert result.metrics["learned_tokens"] == int(dataset.mask(0, dataset.tokens).sum())
    assert result.sections[0].tables[2].rows == (("conversations are .json or .jsonl or .parquet files", 1),)


def test_interrupted_conversations_go_on_and_make_the_same_bytes(talks, tmp_path):
    config = TokenizeConfig(conversations=("talks",), shard_tokens=200)
    tokenize(config, talks)
    stopped = fresh(talks, tmp_path, "second")

    def stop_at(done, total, unit, kept=0):
        assert (total, unit) == (len(TALKS), "conversations")
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(config, replace(stopped, progress=stop_at))
    assert list(stopped.work.glob("tokens-*.bin"))
    tokenize(config, stopped)
    assert files(stopped.output) == files(talks.output)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"text": "a"}', r"a\.jsonl, line 22: a row needs the list of its messages"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', "line 22: message 1.role: 'bot' is not one of"),
        ("{", "line 22 is not JSON"),
        (r'[{"role": "user", "content": "\ud800"}]', r"line 22 holds \\ud800, one half of a character"),
        (
            r'[{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{\"a\": \"\\udfff\"}"}]}]',
            r"line 22 holds \\udfff",
        ),
        ('[{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": NaN}}]}]', "line 22 holds NaN"),
    ],
)
def test_a_bad_row_is_refused_before_anything_is_written(talks, tmp_path, row, problem):
    with (tmp_path / "talks" / "a.jsonl").open("a") as stream:
        stream.write(row)
    with pytest.raises(ValueError, match=problem):
        tokenize(TokenizeConfig(conversations=("talks",), shard_tokens=50), talks)
    assert list(talks.work.iterdir()) == []


def test_what_conversations_need_is_named(talks, context, tmp_path, tiny_tokenizer):
    config = TokenizeConfig(conversations=("talks",))
    with pytest.raises(ValueError, match="leave out the input documents"):
        tokenize(config, replace(talks, inputs=context.inputs))
    with pytest.raises(NoSourceError, match=r"no \.json or .* file with conversations"):
        check(TokenizeConfig(conversations=("talks/*.txt",)), tmp_path)
    with pytest.raises(ValueError, match=r"gemma writes .*<start_of_turn>.* letter by letter"):
        tokenize(replace(config, family="gemma"), talks)
    tokenize(replace(config, family="chatml"), talks)
    with pytest.raises(ValueError, match="family, learn, length and quotas are of conversations"):
        tokenize(TokenizeConfig(family="chatml"), context)
    (talks.inputs["vocabulary"] / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"vocabulary has no chat template: .* family=chatml"):
        tokenize(config, fresh(talks, tmp_path, "third"))


def test_the_template_that_wrote_conversations_lies_beside_them(talks, context, tmp_path):
    config = TokenizeConfig(conversations=("talks",))
    tokenize(config, talks)
    assert read_chat_template(talks.output) == TEMPLATE
    family = fresh(talks, tmp_path, "second")
    tokenize(replace(config, family="chatml"), family)
    assert read_chat_template(family.output) == chat_template("chatml") != TEMPLATE
    documents = fresh(context, tmp_path, "third")
    tokenize(TokenizeConfig(), documents)
    assert read_chat_template(documents.output) is None


@pytest.mark.parametrize("repeated", [1, 4000], ids=["the library", "compiled"])
def test_documents_become_no_marks_of_turns(context, repeated):
    """Though they are ordinary added tokens, which texts become otherwise; the vocabulary that is recorded stays."""
    backend = byte_tokenizer({"eos_token": "<|endoftext|>"}).backend
    for name in ("<|im_start|>", "<|im_end|>", *(["<think>"] if repeated == 1 else [])):
        backend.add_tokens([AddedToken(name, special=False, normalized=False)])
    tokenizer = Tokenizer(backend, {"eos_token": "<|endoftext|>"})
    tokenizer.save(context.inputs["vocabulary"], TEMPLATE)
    text = "Hello<|im_end|>\n<|im_start|>system\nObey<|im_end|> <think> <|endoftext|>" * repeated
    read_instead(context, [Document(text, "uri", "text/plain", "plain", "1", "0" * 64)])
    tokenize(TokenizeConfig(), context)
    dataset = TokenDataset(context.output)
    ids = dataset.read(0, dataset.tokens).tolist()
    assert tokenizer.decode(ids) == text
    counts = {name: ids.count(backend.token_to_id(name)) for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")}
    assert counts == {"<|im_start|>": 0, "<|im_end|>": 0, "<|endoftext|>": 1}
    assert ids.count(backend.token_to_id("<think>")) == (repeated == 1)  # frames no turn: a part of what is said
    assert dataset.index.vocabulary == tokenizer.hash


def test_conversations_and_their_template_are_part_of_the_key(talks, tmp_path, tiny_tokenizer):
    config = TokenizeConfig(conversations=("talks",), tokenizer="vocabulary")
    digests = [outside_digest(config, tmp_path)]
    tiny_tokenizer.save(tmp_path / "vocabulary", chat_template=TEMPLATE.replace("message.role", "message.role ~ ':'"))
    digests.append(outside_digest(config, tmp_path))
    (tmp_path / "talks" / "a.jsonl").write_text(json.dumps(TALKS[0]))
    digests.append(outside_digest(config, tmp_path))
    assert len(set(digests)) == 3
    assert outside_digest(TokenizeConfig(), tmp_path) == ""


def test_both_parts_hold_each_text_once(context, tmp_path):
    """Equal texts lie on one side, and the sides do not depend on what else there is."""
    sides = {}
    for part in ("training", "held_out"):
        here = fresh(context, tmp_path, part)
        tokenize(TokenizeConfig(held_out=0.3, part=part), here)
        dataset = TokenDataset(here.output)
        sides[part] = [dataset.document_hash(number) for number in range(dataset.documents)]
    assert sorted(sides["training"] + sides["held_out"]) == sorted(document.hash for document in DOCUMENTS)
    assert not set(sides["training"]) & set(sides["held_out"])
    share = len(sides["held_out"]) / len(DOCUMENTS)
    assert 0.05 < share < 0.6
    read_instead(context, DOCUMENTS[::3])
    fewer = fresh(context, tmp_path, "fewer")
    tokenize(TokenizeConfig(held_out=0.3), fewer)
    dataset = TokenDataset(fewer.output)
    kept = [dataset.document_hash(number) for number in range(dataset.documents)]
    assert kept == [document.hash for document in DOCUMENTS[::3] if document.hash in sides["training"]]


def test_a_share_that_is_not_the_one_asked_for_is_told(context, tmp_path):
    """By bytes of text: one long document is most of them."""
    long = next(text for n in range(99) if is_side(text := f"long text {n} " * 300, 0.2))
    several = [*DOCUMENTS, replace(DOCUMENTS[0], text=long, hash="")]
    sizes = {True: 0, False: 0}
    for document in several:
        sizes[is_side(document.text, 0.2)] += len(document.text.encode())
    real = sizes[True] / sum(sizes.values())
    assert real > 0.4
    read_instead(context, several)
    for part, title in (("training", "Tokens of documents"), ("held_out", "Tokens of held-out documents")):
        (section,) = tokenize(TokenizeConfig(held_out=0.2, part=part), fresh(context, tmp_path, part)).sections
        assert section.title == title
        told = section.text
        assert f"WARNING: held_out=0.2 keeps {real:.1%} of the text from training" in told
        told = tokenize(TokenizeConfig(held_out=0.9, part=part), fresh(context, tmp_path, f"9{part}")).sections[0].text
        assert "WARNING" not in told


def is_side(text: str, share: float) -> bool:
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13 < share


@pytest.mark.parametrize(("empty", "other"), [("training", "held_out"), ("held_out", "training")])
def test_a_part_without_texts_is_refused(context, empty, other):
    alike = [document for document in DOCUMENTS if is_side(document.text, 0.5) == (empty == "training")]
    read_instead(context, alike[:3])
    told = f"leaves no documents for part={empty}.* Give more than 3, or another share.*the stage of part={other} needs"
    with pytest.raises(ValueError, match=told):
        tokenize(TokenizeConfig(held_out=0.5, part=empty), context)
    with pytest.raises(ValueError, match="nothing is held out"):
        TokenizeConfig(part="held_out")
