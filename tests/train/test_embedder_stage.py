"""Pairs to an embedding model: what is learned, that it can be stopped, and that others load it."""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lmworks
from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.artefact import read_manifest
from lmworks.build import run_alone, stage_sections
from lmworks.config import ConfigError
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.group_loader import GroupLoader
from lmworks.data.training_rows import pair_groups
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import PoolHead
from lmworks.model.initialisation import PUBLISHED, initialise
from lmworks.model.presets import bert
from lmworks.model.transformer import Transformer
from lmworks.records import Scored, TextPair
from lmworks.tokenizer import WordPieceConfig, train_wordpiece
from lmworks.train.config import CheckpointConfig, TrainConfig
from lmworks.train.loop import train
from lmworks.train.objectives.contrastive import Contrastive
from lmworks.train.optimizer_config import AdamW
from lmworks.train.run import Run
from lmworks.train.run_log import read_log
from lmworks.train.stage_embedder import _validation, with_pooling
from published_data import DATA
from training_cases import new_checkpoint

SPECIAL = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
SETTINGS = ["batch=32", "epochs=6", "length=32", "rate=0.004", "train.log=1", "train.validate=20", "held_out=0.1"]


def new_encoder(head: PoolHead | None = None) -> Checkpoint:
    config = bert(258, 32, 1, 2, 64, 32, head=head)
    model = initialise(Transformer(config), 0, scheme=PUBLISHED["bert"])
    return assemble(config, model.state_dict(), byte_tokenizer(SPECIAL))


def some_pairs(count: int) -> list[TextPair]:
    """A positive has its anchor's letters in another order; a negative has all of them but two."""
    generator, pairs = np.random.default_rng(0), []
    for _ in range(count):
        letters = generator.choice(list("abcdefghijklmnop"), 6)
        wrong = [*letters[:4], *generator.choice(list("qrst"), 2)]
        pairs.append(TextPair("".join(letters), "".join(generator.permutation(letters)), ("".join(wrong),)))
    return pairs


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embedder")
    rows = [{"anchor": p.anchor, "positive": p.positive, "negatives": list(p.negatives)} for p in some_pairs(900)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    new_encoder().save(folder / "encoder")
    settings = [f'pairs=["{folder}/pairs.jsonl"]', f"base={folder}/encoder", "pooling=mean", *SETTINGS]
    run_alone("train.embedder", folder / "embedder", [], [], settings)
    return folder


def test_what_was_not_trained_on_is_found_too(workspace):
    """Held-out positives among 32 and as many negatives: guessing costs ln 64 = 4.2 nats."""
    metrics = read_manifest(workspace / "embedder").metrics
    assert metrics["validation_loss"] < np.log(64) / 2
    assert metrics["pairs"] + metrics["held_out"] == 900 and 50 < metrics["held_out"] < 130
    assert metrics["cut"] == 0
    lines = [line for line in read_log(workspace / "embedder" / "log.jsonl") if line["kind"] == "step"]
    assert lines[0]["loss"] - lines[-1]["loss"] > 1
    assert lines[-1]["targets"] == 32


def test_the_model_is_an_embedding_model_also_to_others(workspace):
    from transformers import AutoModel

    checkpoint = lmworks.load(workspace / "embedder")
    assert checkpoint.config.head == PoolHead("mean")
    ids = torch.tensor([[256, 3, 4, 5, 257]])
    theirs = AutoModel.from_pretrained(workspace / "embedder", add_pooling_layer=False)(ids).last_hidden_state.mean(1)
    ours = checkpoint.model(ids)
    torch.testing.assert_close(ours, torch.nn.functional.normalize(theirs, dim=-1), rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    """Bit by bit, also where a step is cut into chunks."""

    class Killed(BaseException):
        pass

    class Mortal(GroupLoader):
        def __next__(self):
            if self.step == 7:
                raise Killed
            return super().__next__()

    def a_run(folder, kind):
        config = TrainConfig(AdamW(rate=3e-3), validate=None, log=1, checkpoint=CheckpointConfig(steps=3))
        pairs = kind(GroupLoaderConfig(32, 16, 10), pair_groups(some_pairs(100), byte_tokenizer(SPECIAL), 32))
        return Run(new_encoder(PoolHead("mean")), Contrastive(chunk=5), pairs, config, folder)

    undisturbed = a_run(tmp_path / "one", GroupLoader)
    train(undisturbed)
    with pytest.raises(Killed):
        train(a_run(tmp_path / "two", Mortal))
    again = a_run(tmp_path / "two", GroupLoader)
    train(again)
    assert again.position == undisturbed.position
    assert again.position.tokens == 10 * 16 * 3 * 8  # of six letters between two special tokens
    for name, weight in undisturbed.weights.masters.items():
        assert torch.equal(again.weights.masters[name], weight)


def test_the_signature_says_of_which_model_and_pairs_the_score_is(tmp_path):
    pairs = some_pairs(96)
    tall = bert(258, 32, 2, 2, 64, 32, head=PoolHead("mean"))
    model = initialise(Transformer(tall), 0, scheme=PUBLISHED["bert"])
    taller = assemble(tall, model.state_dict(), byte_tokenizer(SPECIAL))
    short, long = new_encoder(PoolHead("mean")), new_encoder(PoolHead("mean"))
    found = []
    for checkpoint, held_out in ((short, pairs[:64]), (long, pairs[:64]), (short, pairs[32:]), (taller, pairs[:64])):
        loader = GroupLoader(GroupLoaderConfig(32, 16), pair_groups(held_out, checkpoint.tokenizer, 32))
        run = Run(checkpoint, Contrastive(), loader, TrainConfig(), tmp_path)
        scored = _validation(run, held_out, loader.config)().total
        assert isinstance(scored, Scored)
        found.append(scored.signature)
    assert found[0] == found[1] and len(set(found)) == 3


def test_the_order_in_a_batch_changes_no_loss():
    checkpoint, objective = new_encoder(PoolHead("mean")), Contrastive()
    pairs = some_pairs(8)
    losses = []
    for rows in (pairs, pairs[::-1]):
        batch = pair_groups(rows, checkpoint.tokenizer, 32).batch(range(8))
        losses.append(objective.losses(checkpoint.model, objective.examples(batch, 0))["contrastive"])
    torch.testing.assert_close(losses[0].sum, losses[1].sum, rtol=1e-5, atol=0)


@for_each("family", ["llama", "gpt2"])
def test_a_decoder_becomes_an_embedding_model_and_stays_one(family, tmp_path):
    checkpoint = with_pooling(new_checkpoint(family), "last")
    again = lmworks.load(checkpoint.save(tmp_path / "saved"))
    ids = torch.tensor([[5, 6, 7, 8]])
    assert again.config.head == PoolHead("last")
    assert torch.equal(again.model(ids), checkpoint.model(ids))
    hidden = new_checkpoint(family).model.hidden(ids)[:, -1]
    torch.testing.assert_close(again.model(ids), torch.nn.functional.normalize(hidden, dim=-1))


def test_what_cannot_be_is_refused_before_anything_is_trained(workspace, tmp_path):
    pairs = f'pairs=["{workspace}/pairs.jsonl"]'

    def attempt(*settings):
        run_alone("train.embedder", tmp_path / "out", [], [], settings)

    with pytest.raises(ConfigError, match="name the files with pairs"):
        attempt(f"base={workspace}/encoder")
    with pytest.raises(ValueError, match="is no embedding model yet: set pooling"):
        attempt(pairs, f"base={workspace}/encoder")
    with pytest.raises(ValueError, match="pools by mean, not by cls"):
        attempt(pairs, f"base={workspace}/embedder", "pooling=cls")
    with pytest.raises(ValueError, match="expected one checkpoint"):
        attempt(pairs)
    with pytest.raises(ConfigError, match="two pairs at least"):
        attempt(pairs, f"base={workspace}/encoder", "batch=1")
    (tmp_path / "bad.jsonl").write_text('{"anchor": "a", "positive": "b"}\n{"anchor": "a"}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2.*positive: missing"):
        attempt(f'pairs=["{tmp_path}/bad.jsonl"]', f"base={workspace}/encoder", "pooling=mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl"]


def test_too_few_pairs_are_told_of(workspace, tmp_path):
    rows = [{"anchor": pair.anchor, "positive": pair.positive} for pair in some_pairs(10)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = [f'pairs=["{tmp_path}/few.jsonl"]', f"base={workspace}/encoder", "pooling=mean"]
    outcome = run_alone("train.embedder", tmp_path / "out", [], [], [*settings, "held_out=0.001"])
    told = stage_sections(outcome)[0].text
    assert "WARNING: 1 step of training on 10 pairs, in which little is learned: give more pairs" in told
    assert "WARNING: held_out=0.001 of 10 pairs are 0, and a validation takes two" in told
    outcome = run_alone("train.embedder", tmp_path / "half", [], [], [*settings, "held_out=0.5", "epochs=40"])
    assert "WARNING" in (told := stage_sections(outcome)[0].text) and "pairs fill one batch of validation" in told
    assert "which has no spread" in outcome.manifest.metrics["validation_unscored"]
    assert "WARNING" not in json.loads((workspace / "embedder" / "sections.json").read_text())[0]["text"]


def test_another_pair_is_another_artefact(workspace, tmp_path):
    """The files are no input of the stage, and yet decide what it makes."""
    from lmworks.outside_inputs import digest_outside
    from lmworks.stages import STAGES
    from lmworks.train.config import EmbedderConfig

    file = tmp_path / "pairs.jsonl"
    digests = set()
    for positive in ("one", "two"):
        file.write_text(json.dumps({"anchor": "a", "positive": positive}))
        config = EmbedderConfig(pairs=(str(file),), base=str(workspace / "encoder"))
        digests.add(digest_outside(STAGES["train.embedder"], config, tmp_path))
    assert len(digests) == 2
    assert all(len(digest) == len(hashlib.sha256().hexdigest()) for digest in digests)


@pytest.mark.slow
def test_real_sentences_that_follow_on_each_other_are_found(tmp_path):
    """The two sentences of a Wikipedia sentence split in two, of which the encoder, new, has seen one epoch. Guessing
    among 64 costs 4.16 nats."""
    lines = gzip.decompress((DATA / "wiki-split-test" / "test.tsv.gz").read_bytes()).decode().splitlines()
    pairs = [line.split("\t")[1].split(" <::::> ") for line in lines]
    rows = [json.dumps({"anchor": first, "positive": second}) for first, second, *_ in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows), "utf-8")
    tokenizer = train_wordpiece([text for pair in pairs for text in pair], WordPieceConfig(4000)).tokenizer
    config = bert(tokenizer.vocabulary_size, 64, 1, 2, 128, 64)
    model = initialise(Transformer(config), 0, scheme=PUBLISHED["bert"])
    assemble(config, model.state_dict(), tokenizer).save(tmp_path / "encoder")
    settings = [f'pairs=["{tmp_path}/pairs.jsonl"]', f"base={tmp_path}/encoder", "pooling=mean", "rate=0.003"]
    outcome = run_alone("train.embedder", tmp_path / "embedder", [], [], [*settings, "length=64"])
    assert outcome.manifest.metrics["validation_loss"] < np.log(64) - 0.4
    assert outcome.manifest.metrics["held_out"] > 200
