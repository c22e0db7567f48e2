"""BERT against `transformers`, in both directions: tiny random models, then MiniLM's real weights."""

import pytest
import torch

from kit.tables import for_each
from lmworks.model.checkpoint import assemble, load
from lmworks.model.config import PoolHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert
from lmworks.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

TEXTS = [
    "A cat sat on the mat.",
    "Dense retrieval compares vectors.",
    "x",
    "The quick brown fox jumps over the lazy dog, while 1,234 größere Hunde zuschauen and the sun sets slowly. " * 8,
]


def batch(length: int, sizes: list[int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (len(sizes), length)
    mask = torch.arange(length) < torch.tensor(sizes)[:, None]
    ids = torch.randint(267, shape, generator=generator)
    return {"ids": ids, "attention_mask": mask, "token_types": torch.randint(2, shape, generator=generator)}


def their_hidden(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(
        input_ids=inputs["ids"], attention_mask=inputs["attention_mask"].long(), token_type_ids=inputs["token_types"]
    ).last_hidden_state


@torch.no_grad()
@for_each("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_a_tiny_model_of_theirs_is_read(activation, tiny_tokenizer, tmp_path):
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    theirs = transformers.BertModel(transformers.BertConfig(**shape, vocab_size=267, hidden_act=activation)).eval()
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("LayerNorm.weight" in name), std=0.15)
    theirs.save_pretrained(tmp_path)
    tiny_tokenizer.save(tmp_path)
    inputs = batch(20, [20, 7, 1])
    real = inputs["attention_mask"]
    actual, expected = load(tmp_path).model(**inputs), their_hidden(theirs, inputs)
    torch.testing.assert_close(actual[real], expected[real], atol=1e-5, rtol=1e-5)  # float32, sums in another order


@torch.no_grad()
def test_a_tiny_model_of_ours_is_read_by_them(tiny_tokenizer, tmp_path):
    config = bert(267, 64, 3, 4, 96, 128, activation="gelu_tanh", norm_eps=1e-6)
    checkpoint = assemble(config, initialise(Transformer(config), seed=0, std=0.15).state_dict(), tiny_tokenizer)
    folder = checkpoint.save(tmp_path / "model")
    theirs, report = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not any(report.values()), report
    inputs = batch(20, [20, 7, 1])
    real = inputs["attention_mask"]
    expected = their_hidden(theirs.eval(), inputs)
    torch.testing.assert_close(checkpoint.model(**inputs)[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def their_vectors(minilm) -> torch.Tensor:
    """Mean pooling and L2 norm as sentence-transformers does it, with their tokenizer and their model, text by text."""
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    vectors = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        vectors.append(torch.nn.functional.normalize(hidden.mean(dim=1), dim=1)[0])
    return torch.stack(vectors)


def our_ids(checkpoint) -> list[list[int]]:
    return [ids if len(ids) <= 256 else [*ids[:255], ids[-1]] for ids in checkpoint.tokenizer.encode_batch(TEXTS, True)]


@torch.no_grad()
@pytest.mark.weights
def test_embeddings_of_the_real_weights(minilm_checkpoint, their_vectors):
    for ids, expected in zip(our_ids(minilm_checkpoint), their_vectors, strict=True):
        assert (minilm_checkpoint.model(torch.tensor([ids]))[0] - expected).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.weights
def test_padded_embeddings_of_the_real_weights(minilm_checkpoint, their_vectors):
    rows = our_ids(minilm_checkpoint)
    assert max(map(len, rows)) > 150  # so that the short ones are mostly padding
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True).bool()
    assert (minilm_checkpoint.model(ids, attention_mask=mask) - their_vectors).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.weights
def test_the_saved_folder_is_read_by_them(minilm_checkpoint, tmp_path):
    folder = minilm_checkpoint.save(tmp_path / "minilm")
    theirs = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ids = torch.tensor([minilm_checkpoint.tokenizer.encode(TEXTS[0], special=True)])
    torch.testing.assert_close(
        minilm_checkpoint.model.hidden(ids), theirs(input_ids=ids).last_hidden_state, atol=1e-5, rtol=1e-5
    )
    assert minilm_checkpoint.config.head == PoolHead("mean", normalize=True)
    assert (minilm_checkpoint.max_length, minilm_checkpoint.licence) == (256, "apache-2.0")
    # The file asks for padding to 128 tokens and truncation at 128; both are off.
    assert len(minilm_checkpoint.tokenizer.encode("word " * 200, special=True)) == 202
    assert load(folder).fingerprint == minilm_checkpoint.fingerprint
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer(TEXTS[0])["input_ids"] == ids[0].tolist()
