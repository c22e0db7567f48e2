"""`corpus.perplexity` against the model's own logits; its annotations beside the others, in `corpus.filter`."""

import math
from pathlib import Path

import pytest
import torch
from engine_cases import tiny_llama

from lmworks.artefact import SECTIONS, StageContext
from lmworks.build import run_alone
from lmworks.corpus.attributes import attribute_paths, read_attributes
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.corpus.taggers.config import ModelPerplexityConfig
from lmworks.generate import perplexity as perplexity_stage
from lmworks.generate.perplexity import language_model_cost, perplexity
from lmworks.model.checkpoint import Checkpoint, load

TEXTS = {
    "a.txt": "A short text.",
    "b.txt": "The mayor said that the county had promised to pay for the road. " * 12,  # several windows
    "c.txt": "na\u00efve \u00e9t\u00e9 \u4e16\u754c " * 3,
    "d.txt": "x",
    "e.txt": "broken char\u00c3\u00a9cters of the web",  # repaired before it is scored
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_llama().save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Documents and their annotations."""
    folder = tmp_path_factory.mktemp("perplexity")
    (folder / "texts").mkdir()
    for name, text in TEXTS.items():
        (folder / "texts" / name).write_text(text, "utf-8")
    run_alone("corpus.read", folder / "documents", [], [], [f'sources=["{folder / "texts"}"]', 'kind="web"'])
    off = [f"{name}=false" for name in ("language", "heuristics", "personal", "licences", "spam")]
    run_alone("corpus.tag", folder / "annotations", [folder / "documents"], [], off)
    return folder


@pytest.fixture(scope="module")
def scored(folder: Path, model: Path) -> Path:
    inputs = [folder / "documents", folder / "annotations"]
    settings = [f'checkpoint="{model}"', "window=100"]
    return run_alone("corpus.perplexity", folder / "scored", inputs, [], settings).folder


def direct(model: Checkpoint, text: str, window: int) -> float:
    """e to the mean of -ln p of each token, from logits of the model in one forward for each window."""
    ids, nats = model.tokenizer.encode(text), []
    start = model.tokenizer.special_ids["<|endoftext|>"]
    for place in range(0, len(ids), window):
        piece = ids[place : place + window]
        # As many tokens as fit stand before: the last window reaches back.
        read = [start, *ids][max(place + len(piece) - window, 0) : place + len(piece)]
        with torch.inference_mode():
            logits = model.model(torch.tensor([read]))[0].double()[-len(piece) :]
        nats += (-logits.log_softmax(-1)[torch.arange(len(piece)), torch.tensor(piece)]).tolist()
    return math.exp(sum(nats) / len(nats))


def test_it_is_what_the_models_logits_say(scored, folder, model):
    (path,) = attribute_paths(scored)
    table = read_attributes(path)
    loaded = load(model)
    texts = {
        document.uri: apply_edits(document.text, edits).text
        for document, edits in zip(DocumentStore(folder / "documents"), table.edits, strict=True)
    }
    assert "charécters" in texts["texts/e.txt"]
    expected = [direct(loaded, texts[uri], 100) for uri in table.uris]
    # float32 in another order of sums: logits of magnitude 10 move by about 1e-5.
    assert table.scores["model_perplexity"].tolist() == pytest.approx(expected, rel=2e-4)
    assert len(set(expected)) == len(TEXTS) and set(table.scores) == {"model_perplexity"}


def test_equal_runs_are_equal_however_the_work_is_cut(scored, folder, model, tmp_path, monkeypatch):
    monkeypatch.setattr(perplexity_stage, "_PART_CHARACTERS", 100)
    inputs = [folder / "documents", folder / "annotations"]
    again = run_alone("corpus.perplexity", tmp_path / "a", inputs, [], [f'checkpoint="{model}"', "window=100"]).folder
    (one,), (other,) = attribute_paths(scored), attribute_paths(again)
    first, second = (read_attributes(path).scores["model_perplexity"].tolist() for path in (one, other))
    assert first == pytest.approx(second, rel=2e-4)  # fused kernels give the same bits, modules round with their batch
    same = run_alone("corpus.perplexity", tmp_path / "b", inputs, [], [f'checkpoint="{model}"', "window=100"]).folder
    assert attribute_paths(same)[0].read_bytes() == other.read_bytes()


def test_a_text_costs_the_same_whatever_comes_with_it(model):
    cost = language_model_cost(model, window=64)
    texts = [*TEXTS.values(), ""]
    together = cost(texts)
    assert together[-1] == (0.0, 0)
    for text, (nats, tokens) in zip(texts, together, strict=True):
        alone, number = cost([text])[0]
        assert number == tokens == len(load(model).tokenizer.encode(text)) and nats == pytest.approx(alone, rel=2e-4)
    nats, tokens = together[0]
    assert math.exp(nats / tokens) == pytest.approx(direct(load(model), "A short text.", 64), rel=2e-4)


def test_a_window_longer_than_the_model_is_cut_to_it(model):
    assert language_model_cost(model, window=10_000).window == 255  # of 256, behind the beginning


def test_data_clean_takes_it_as_a_further_input(scored, folder, tmp_path):
    (path,) = attribute_paths(scored)
    table = read_attributes(path)
    values = dict(zip(table.uris, table.scores["model_perplexity"].tolist(), strict=True))
    limit = sorted(values.values())[2]
    inputs = [folder / "documents", folder / "annotations", scored]
    steps = f'steps=[{{name="s", limits={{model_perplexity={{at_most={limit!r}}}, words={{at_least=0}}}}}}]'
    run_alone("corpus.filter", tmp_path / "cleaned", inputs, [], [steps])
    kept = {document.uri for document in DocumentStore(tmp_path / "cleaned")}
    assert kept == {uri for uri, value in values.items() if value <= limit} and len(kept) == 3
    entries = read_ledger(tmp_path / "cleaned" / LEDGER)
    dropped = {entry.document: entry.reasons[0].value for entry in entries if entry.verdict == "dropped"}
    assert dropped == {uri: value for uri, value in values.items() if value > limit}


def test_the_checkpoint_may_be_an_input(scored, folder, model, tmp_path):
    inputs = {"documents": folder / "documents", "annotations": folder / "annotations", "model": model}
    output, work = tmp_path / "out", tmp_path / "work"
    output.mkdir()
    work.mkdir()
    perplexity(ModelPerplexityConfig(window=100), StageContext(inputs, output, work))
    assert attribute_paths(output)[0].read_bytes() == attribute_paths(scored)[0].read_bytes()


def test_ngrams_learn_from_an_input(folder, tmp_path):
    """Documents like those that it learns from have a lower perplexity; the report says what was learned."""
    (tmp_path / "wanted").mkdir()
    for number in range(150):
        (tmp_path / "wanted" / f"{number}.txt").write_text(f"The mayor said that the county had promised {number}.")
    run_alone("corpus.read", tmp_path / "good", [], [], [f'sources=["{tmp_path / "wanted"}"]'])
    inputs = [folder / "documents", folder / "annotations", tmp_path / "good"]
    result = run_alone("corpus.perplexity", tmp_path / "scored", inputs, [], ['learn_from="good"', "ngrams.order=2"])
    table = read_attributes(attribute_paths(result.folder)[0])
    values = dict(zip(table.uris, table.scores["model_perplexity"].tolist(), strict=True))
    assert min(values, key=values.__getitem__) == "texts/b.txt"
    assert "Learned 2-grams of" in (result.folder / SECTIONS).read_text("utf-8")


def test_what_is_missing_or_unfit_is_told(folder, model, tmp_path):
    def attempt(inputs: dict[str, Path], **settings: str) -> None:
        context = StageContext(inputs, tmp_path / "output", tmp_path / "work")
        perplexity(ModelPerplexityConfig(**settings), context)

    both = {"documents": folder / "documents", "annotations": folder / "annotations"}
    with pytest.raises(ValueError, match=r"expected one checkpoint, .* found 0"):
        attempt(both)
    with pytest.raises(ValueError, match="found 2"):
        attempt({**both, "model": model}, checkpoint=str(model))
    with pytest.raises(ValueError, match="no input holds attributes"):
        attempt({"documents": folder / "documents"}, checkpoint=str(model))
    for settings in ({"window": 0}, {"score": "a b"}):
        with pytest.raises(ValueError):
            ModelPerplexityConfig(**settings)
