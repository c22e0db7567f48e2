import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
)
from transformers.models.roberta.modeling_roberta import RobertaClassificationHead

from lmworks.model.config import (
    ClassificationHead,
    LanguageModelHead,
    MaskedLanguageModelHead,
    NextSentenceHead,
    Norm,
    PoolHead,
    ScoreHead,
    SpanBoundaryHead,
)
from lmworks.model.heads import build_head

WIDTH, VOCABULARY, LABELS = 16, 29, 3
NORM = Norm("layer", 1e-12)
TINY = {
    "hidden_size": WIDTH,
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": LABELS,
    "pad_token_id": 0,
}
MASKED = MaskedLanguageModelHead("gelu", NORM)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


HIDDEN = random(3, 7, WIDTH, seed=100)
TOKENS = random(VOCABULARY, WIDTH, seed=101)
RIGHT = torch.tensor([[True] * 7, [True] * 3 + [False] * 4, [True] * 5 + [False] * 2])


def randomise(module):
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = random(*parameter.shape, seed=seed)
    return module.double().eval()


def build(config):
    return randomise(build_head(config, WIDTH, VOCABULARY))


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_language_model_head():
    close(build(LanguageModelHead(tied=True))(HIDDEN, TOKENS), HIDDEN @ TOKENS.T)
    untied = build(LanguageModelHead(tied=False, bias=True))
    close(untied(HIDDEN, TOKENS), HIDDEN @ untied.projection.weight.T + untied.bias)
    scaled = build(LanguageModelHead(tied=True, scale=WIDTH**-0.5))
    close(scaled(HIDDEN, TOKENS), HIDDEN @ TOKENS.T / 4)
    capped = build(LanguageModelHead(tied=True, softcap=3.0))(HIDDEN, TOKENS)
    close(capped, 3 * torch.tanh(HIDDEN @ TOKENS.T / 3))
    assert list(build(LanguageModelHead(tied=True)).state_dict()) == []
    assert list(untied.state_dict()) == ["bias", "projection.weight"]


@torch.no_grad()
def test_masked_language_model_head_is_berts():
    theirs = randomise(BertForMaskedLM(BertConfig(**TINY)).cls.predictions)
    ours = build(MASKED)
    ours.load_state_dict(
        {
            "bias": theirs.decoder.bias,
            "dense.weight": theirs.transform.dense.weight,
            "dense.bias": theirs.transform.dense.bias,
            "norm.weight": theirs.transform.LayerNorm.weight,
            "norm.bias": theirs.transform.LayerNorm.bias,
        }
    )
    close(ours(HIDDEN, theirs.decoder.weight), theirs(HIDDEN))


@torch.no_grad()
def test_span_boundary_head_is_the_papers_formula_token_by_token():
    head = build(SpanBoundaryHead(MASKED, max_span=5, position_width=6))
    close(head(HIDDEN, TOKENS), head.masked(HIDDEN, TOKENS))

    def layer(projection, norm, x):
        x = projection.weight @ x + projection.bias
        x = x * (1 + torch.erf(x / 2**0.5)) / 2
        return (x - x.mean()) / (x.var(unbiased=False) + 1e-12).sqrt() * norm.weight + norm.bias

    rows, places, outer, expected = [], [], [], []
    for row, (first, last) in enumerate([(1, 3), (2, 2), (3, 5)]):  # the masked spans
        for token in range(first, last + 1):
            place = token - first
            joined = torch.cat((HIDDEN[row, first - 1], HIDDEN[row, last + 1], head.positions.weight[place]))
            second = layer(head.second, head.second_norm, layer(head.first, head.first_norm, joined))
            expected.append(TOKENS @ second + head.bias)
            rows.append(row)
            places.append(place)
            outer.append((first - 1, last + 1))
    starts, ends = torch.tensor(outer).T
    close(head.spans(HIDDEN, TOKENS, torch.tensor(rows), starts, ends, torch.tensor(places)), torch.stack(expected))


@torch.no_grad()
def test_next_sentence_head_is_that_of_berts_pre_training():
    theirs = randomise(BertForPreTraining(BertConfig(**TINY)))
    ours = build(NextSentenceHead(MASKED))
    ours.pooler, ours.projection = theirs.bert.pooler.dense, theirs.cls.seq_relationship
    close(ours.relation(HIDDEN, RIGHT), theirs.cls.seq_relationship(theirs.bert.pooler(HIDDEN)))
    close(ours(HIDDEN, TOKENS), ours.masked(HIDDEN, TOKENS))


@torch.no_grad()
def test_classification_is_berts_pooler_and_classifier():
    theirs = randomise(BertForSequenceClassification(BertConfig(**TINY)))
    ours = build(ClassificationHead(LABELS, "cls", "tanh"))
    ours.dense, ours.projection = theirs.bert.pooler.dense, theirs.classifier
    close(ours(HIDDEN, TOKENS, RIGHT), theirs.classifier(theirs.bert.pooler(HIDDEN)))


@torch.no_grad()
def test_classification_is_robertas():
    theirs = randomise(RobertaClassificationHead(RobertaConfig(**TINY)))
    ours = build(ClassificationHead(LABELS, "cls", "tanh"))
    ours.dense, ours.projection = theirs.dense, theirs.out_proj
    close(ours(HIDDEN, TOKENS, RIGHT), theirs(HIDDEN))


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_classification_of_a_decoder_reads_the_last_real_token_on_either_side(side):
    theirs = randomise(LlamaForSequenceClassification(LlamaConfig(**TINY)))
    ours = build(ClassificationHead(LABELS, "last", activation=None, bias=False))
    ours.projection = theirs.score
    mask = RIGHT if side == "right" else RIGHT.flip(1)
    ids = torch.randint(1, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(2)).where(mask, 0)
    hidden = theirs.model(ids, attention_mask=mask.long()).last_hidden_state
    # LLaMA's rotary angles and norms are float32 in `transformers`, but both heads see the same hidden states.
    close(ours(hidden, TOKENS, mask), theirs(ids, attention_mask=mask.long()).logits)


@torch.no_grad()
def test_pooled_vectors_have_length_one_if_asked():
    pooled = build(PoolHead("mean", normalize=True))(HIDDEN, TOKENS, RIGHT)
    plain = build(PoolHead("mean", normalize=False))(HIDDEN, TOKENS, RIGHT)
    close(plain[1], HIDDEN[1, :3].mean(0))
    close(pooled, plain / plain.square().sum(-1, keepdim=True).sqrt())


@torch.no_grad()
def test_scores_of_texts_and_of_positions():
    text = build(ScoreHead("last", bias=True))
    position = build(ScoreHead(None, bias=True))
    position.load_state_dict(text.state_dict())
    every = HIDDEN @ text.projection.weight[0] + text.projection.bias
    close(position(HIDDEN, TOKENS, RIGHT), every)
    close(text(HIDDEN, TOKENS, RIGHT), every[[0, 1, 2], [6, 2, 4]])
