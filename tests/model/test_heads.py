import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForPreTraining,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from kit.tables import for_each
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
from lmworks.model.heads import build_head, pool

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
@for_each("side", ["left", "right"])
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


# ---------------------------------------------------------------------------------------------------------------------
# Pooling


POOLED_HIDDEN = torch.tensor([[[3.0, 0.0], [1.0, 8.0], [100.0, 100.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 6.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


@for_each(
    ("pooling", "expected"),
    [("mean", [[2.0, 4.0], [2.0, 3.0]]), ("cls", [[3.0, 0.0], [1.0, 1.0]]), ("last", [[1.0, 8.0], [3.0, 6.0]])],
)
def test_of_the_real_tokens(pooling, expected):
    assert torch.equal(pool(POOLED_HIDDEN, MASK, pooling), torch.tensor(expected))
    assert torch.equal(pool(POOLED_HIDDEN[1:], None, pooling), torch.tensor(expected[1:]))


@given(st.data())
def test_padding_on_either_side_changes_nothing(data):
    before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    length = data.draw(st.integers(1, 4))
    pooling = data.draw(st.sampled_from(["mean", "cls", "last"]))
    hidden = torch.randn(1, before + length + after, 3, generator=torch.Generator().manual_seed(length))
    mask = torch.zeros(1, hidden.shape[1], dtype=torch.bool)
    mask[:, before : before + length] = True
    alone = pool(hidden[:, before : before + length], None, pooling)
    # the mean adds zeros, in another order
    torch.testing.assert_close(pool(hidden, mask, pooling), alone, atol=1e-6, rtol=1e-6)


def test_a_text_without_tokens_is_zero_not_nan():
    assert torch.equal(pool(POOLED_HIDDEN[:1], torch.zeros(1, 3).bool(), "mean"), torch.zeros(1, 2))
