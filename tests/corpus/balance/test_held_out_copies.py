"""What is held out stays out: no text of it, no copy and no variant of one is trained on, whatever is repeated."""

from dataclasses import replace
from itertools import pairwise

import pytest
from balance_cases import artefact, corpus, document, run

from byte_tokenizer import byte_tokenizer
from lmworks.artefact import StageContext
from lmworks.corpus.balance.balanced_corpus import make_copy
from lmworks.corpus.balance.config import BalanceConfig
from lmworks.corpus.balance.survey import origin_of, origins
from lmworks.corpus.documents import DocumentStore
from lmworks.data.config import TokenizeConfig
from lmworks.data.stage import belongs, shard_documents
from lmworks.data.token_dataset import TokenDataset

DOCUMENTS = corpus()
RULES = {"rewrap": 0.25, "plain_punctuation": 0.25, "lowercase": 0.5}
HELD_OUT = 0.3


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer({"eos_token": "<|endoftext|>"})


def tokenized(folder, documents, tokenizer, part, held_out=HELD_OUT):
    """(the result, the texts of the shards)."""
    output, work = folder / part / "output", folder / part / "work"
    output.mkdir(parents=True)
    work.mkdir()
    config = TokenizeConfig(held_out=held_out, part=part)
    result = shard_documents(config, StageContext({"documents": documents}, output, work), tokenizer)
    dataset = TokenDataset(output)
    ids = [dataset.read(*ends).tolist()[:-1] for ends in pairwise(dataset.offsets.tolist())]
    return result, [tokenizer.decode(each) for each in ids]


def test_no_held_out_text_and_no_copy_of_one_is_trained_on(tmp_path, tokenizer):
    given = artefact(tmp_path / "given", DOCUMENTS)
    config = BalanceConfig(max_epochs=4, augment=RULES)
    _, balanced, _ = run(tmp_path / "balanced", config, documents=given)
    folder = tmp_path / "balanced" / "output"
    _, training = tokenized(tmp_path, folder, tokenizer, "training")
    _, held_out = tokenized(tmp_path, folder, tokenizer, "held_out")
    kept_back = [each for each in DOCUMENTS if belongs(each.hash, TokenizeConfig(held_out=HELD_OUT, part="held_out"))]
    assert 20 < len(kept_back) < 90
    assert sorted(held_out) == sorted(each.text for each in kept_back)  # once each, as it came
    forms = {each.hash: {each.text} for each in kept_back}  # all that was made of what is held out
    for each in balanced:
        if (origin := each.metadata.get("origin", each.hash)) in forms:
            forms[origin].add(each.text)
    assert max(map(len, forms.values())) > 2
    assert not {text for of_one in forms.values() for text in of_one} & set(training)
    others = [each for each in balanced if each.metadata.get("origin", each.hash) not in forms]
    lost = len(others) - len(training)  # variants whose own hash is on the other side
    variants = sum("augmented" in each.metadata for each in others)
    assert variants > 100 and lost == sum(
        belongs(each.hash, TokenizeConfig(held_out=HELD_OUT, part="held_out")) for each in others
    )


def test_metadata_of_others_makes_no_copy(tmp_path):
    """Only a hash and a number from 2 on do; a text that quotes such a line does not."""
    plain = document('{"origin": "%s", "copy": "2"}' % ("a" * 64), "s/1")
    named = replace(plain, uri="s/2", metadata={"origin": "The Times", "copy": "2"})
    first = replace(plain, uri="s/3", metadata={"origin": "a" * 64, "copy": "1"})
    copy = make_copy(plain, 2, plain.text)
    store = DocumentStore(artefact(tmp_path / "given", [plain, named, first, copy]))
    assert list(origins(store.shards)) == [None, None, None, plain.hash]
    assert [origin_of(each.metadata) for each in store] == [None, None, None, plain.hash]
