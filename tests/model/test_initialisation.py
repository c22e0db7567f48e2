"""The deviation of every kind of weight, and what it does to activations and gradients in 4 to 64 layers."""

from dataclasses import replace
from math import log, sqrt

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import T5Config, T5ForConditionalGeneration

from kit.tables import for_each
from lmworks.model import config as c
from lmworks.model import presets
from lmworks.model.initialisation import PUBLISHED, by_fan_in, initialise, normal, residual_scaled
from lmworks.model.transformer import Transformer
from slow_cases import slow

WIDTH, HEADS, HEAD_DIM, HIDDEN, LAYERS = 128, 4, 16, 192, 3
LAYER, RMS = c.Norm("layer", 1e-6), c.Norm("rms", 1e-6)
ATTENTION = c.Attention(HEADS, HEADS, HEAD_DIM, bias=True)
DENSE = c.FeedForward(HIDDEN, "gelu", gated=True, bias=True)
BLOCK = c.Block(ATTENTION, DENSE, LAYER, "pre")


def decoder(blocks, head):
    return c.ModelConfig(c.Embedding(300, WIDTH, c.Learned(200)), None, c.Stack(blocks, True, LAYER), head, 200)


UNTIED = c.LanguageModelHead(tied=False)
GPT = decoder((BLOCK,) * LAYERS, UNTIED)
SPARSE = c.MixtureOfExperts(replace(DENSE, bias=False), 4, 2, shared=DENSE)
SEQ2SEQ = c.ModelConfig(
    c.Embedding(300, WIDTH),
    c.Stack((replace(BLOCK, feed_forward=SPARSE),) * 2, False, RMS, c.RelativeBias(both_directions=True)),
    c.Stack((replace(BLOCK, cross=ATTENTION),) * LAYERS, True, RMS, c.RelativeBias()),
    UNTIED,
    64,
)
GEMMA_NORM = c.Norm("rms", 1e-6, offset=1.0)
RELATIVE = tuple(
    replace(
        BLOCK, norm=GEMMA_NORM, norm_at="sandwich", attention=replace(ATTENTION, position=p, qk_norm=RMS, sinks=True)
    )
    for p in (c.RelativeBias(), c.Shaw(8), c.TransformerXL(), c.Alibi(), c.Rope(1e4))
)
BERT = c.ModelConfig(
    c.Embedding(300, WIDTH, c.Learned(64), 2, LAYER),
    c.Stack((replace(BLOCK, norm_at="post"),) * LAYERS, False),
    None,
    c.SpanBoundaryHead(c.MaskedLanguageModelHead("gelu", LAYER), 10),
    64,
)
CLASSIFIER = replace(BERT, head=c.ClassificationHead(4))
EVERY = [GPT, SEQ2SEQ, decoder(RELATIVE, UNTIED), BERT, CLASSIFIER, decoder((BLOCK,), c.ScoreHead())]


@torch.no_grad()
@pytest.mark.parametrize("preset", ["switch", "transformer", *slow("gpt1", "bert", "gpt2", "t5", "gpt_neox")])
@pytest.mark.parametrize("config", EVERY)
def test_every_parameter_gets_a_value(config, preset):
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.fill_(torch.nan)
    initialise(model, seed=0, scheme=PUBLISHED[preset])
    for name, parameter in model.named_parameters():
        last = name.split(".")[-1]
        if last in ("bias", "sinks"):
            assert (parameter == 0).all(), name
        elif "norm" in name.split(".")[-2]:
            module = model.get_submodule(name.rpartition(".")[0])
            assert (parameter == 1 - getattr(module, "offset", 0)).all(), name
        else:
            assert parameter.isfinite().all() and parameter.unique().numel() > parameter.numel() / 2, name


@torch.no_grad()
def test_values_depend_on_seed_config_and_scheme_alone():
    def weights(seed, scheme, dtype=torch.float32):
        torch.manual_seed(torch.randint(99, ()).item())
        return torch.cat(
            [p.float().flatten() for p in initialise(Transformer(GPT).to(dtype), seed, scheme=scheme).parameters()]
        )

    first = weights(1, PUBLISHED["gpt2"])
    assert torch.equal(first, weights(1, PUBLISHED["gpt2"]))
    assert torch.equal(first.bfloat16().float(), weights(1, PUBLISHED["gpt2"], torch.bfloat16))
    assert not torch.equal(first, weights(2, PUBLISHED["gpt2"]))
    assert not torch.equal(first, weights(1, PUBLISHED["bert"]))


def deviations(config, scheme):
    """By the last two words of the name, of all layers together: the deviation and the number of draws."""
    weights = {}
    for name, parameter in initialise(Transformer(config), seed=0, scheme=scheme).named_parameters():
        words = [word for word in name.removesuffix(".weight").split(".") if not word.isdecimal()]
        weights.setdefault(".".join(words[-2:]), []).append(parameter.detach().flatten())
    return {name: (torch.cat(values).std().item(), sum(map(len, values))) for name, values in weights.items()}


TRUNCATED = 0.8796  # the deviation of a unit normal within two deviations: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1))
EXPECTED = {
    # preset, config, and the deviations that its source gives, in numbers where it gives numbers
    "gpt1": (GPT, {"embedding.tokens": 0.02, "embedding.positions": 0.02, "attention.output": 0.02}),
    "gpt2": (
        GPT,
        {
            "embedding.tokens": 0.02,
            "embedding.positions": 0.01,
            "attention.query": 0.02,
            "attention.output": 0.02 / sqrt(6),  # 3 layers of 2 residual connections
            "feed_forward.gate": 0.02,
            "feed_forward.down": 0.02 / sqrt(6),
        },
    ),
    "bert": (
        BERT,
        {
            "embedding.tokens": 0.02 * TRUNCATED,
            "embedding.positions": 0.02 * TRUNCATED,
            "attention.value": 0.02 * TRUNCATED,
            "feed_forward.down": 0.02 * TRUNCATED,
            "masked.dense": 0.02 * TRUNCATED,
            "head.first": 0.02 * TRUNCATED,
        },
    ),
    "gpt_neox": (
        GPT,
        {
            "embedding.tokens": sqrt(2 / (5 * 128)),
            "attention.key": sqrt(2 / (5 * 128)),
            "feed_forward.up": sqrt(2 / (5 * 128)),
            "attention.output": 2 / (3 * sqrt(128)),
            "feed_forward.down": 2 / (3 * sqrt(128)),
            "head.projection": sqrt(2 / (5 * 128)),
        },
    ),
    "transformer": (
        GPT,
        {
            "embedding.tokens": 128**-0.5,
            "attention.query": sqrt(2 / (128 + 64)),
            "attention.output": sqrt(2 / (128 + 64)),
            "feed_forward.up": sqrt(2 / (128 + 192)),
            "feed_forward.down": sqrt(2 / (128 + 192)),
        },
    ),
    "switch": (
        SEQ2SEQ,
        {
            "embedding.tokens": 1.0,
            "feed_forward.router": sqrt(0.1 / 128) * TRUNCATED,
            "experts.up": sqrt(0.1 / 128) * TRUNCATED,
            "experts.down": sqrt(0.1 / 192) * TRUNCATED,
            "shared.down": sqrt(0.1 / 192) * TRUNCATED,
            "attention.query": sqrt(0.1 / (128 * 16)) * TRUNCATED,
            "attention.key": sqrt(0.1 / 128) * TRUNCATED,
            "attention.output": sqrt(0.1 / 64) * TRUNCATED,
        },
    ),
}


@for_each("preset", EXPECTED)
def test_deviations_are_the_published_ones(preset):
    config, expected = EXPECTED[preset]
    measured = deviations(config, PUBLISHED[preset])
    for name, std in expected.items():
        value, draws = measured[name]
        # The standard error of a normal sample's deviation is 1 / sqrt(2 draws) of it; four of them.
        assert value == pytest.approx(std, rel=4 / sqrt(2 * draws)), name


def test_truncated_and_uniform_draws_keep_their_bounds():
    bert = initialise(Transformer(BERT), 0, scheme=PUBLISHED["bert"]).embedding.tokens.weight.abs().max()
    assert 0.039 < bert <= 0.04
    xavier = initialise(Transformer(GPT), 0, scheme=PUBLISHED["transformer"]).decoder.blocks[0].attention.query.weight
    assert 0.99 * sqrt(6 / 192) < xavier.abs().max() <= sqrt(6 / 192)


def test_t5s_deviations_are_those_of_transformers():
    theirs = T5ForConditionalGeneration(
        T5Config(
            vocab_size=300, d_model=WIDTH, d_kv=HEAD_DIM, d_ff=HIDDEN, num_layers=2, num_decoder_layers=LAYERS,
            num_heads=HEADS, feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip
    ours = deviations(replace(SEQ2SEQ, encoder=replace(SEQ2SEQ.encoder, blocks=(BLOCK,) * 2)), PUBLISHED["t5"])
    names = {
        "shared": "embedding.tokens", "q": "attention.query", "k": "attention.key",
        "v": "attention.value", "o": "attention.output", "wi_0": "feed_forward.gate", "wi_1": "feed_forward.up",
        "wo": "feed_forward.down", "relative_attention_bias": "relative_bias.table",
    }  # fmt: skip
    for word, name in names.items():
        found = [p.detach().flatten() for n, p in theirs.named_parameters() if n.split(".")[-2] == word]
        value, draws = ours[name]
        assert value == pytest.approx(torch.cat(found).std().item(), rel=6 / sqrt(2 * draws)), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("width", [64, 256, *slow(1024)])
def test_by_fan_in_a_new_model_guesses_all_tokens_alike_at_any_width(width, tied):
    """Logits of variance 1 cost a loss of ln(vocabulary) + 1/2, whatever the width and the depth."""
    block = c.Block(c.Attention(4, 4, width // 4), c.FeedForward(4 * width, "silu", True), c.Norm("rms", 1e-6), "pre")
    stack = c.Stack((block,) * 6, True, c.Norm("rms", 1e-6))
    config = c.ModelConfig(c.Embedding(301, width), None, stack, c.LanguageModelHead(tied=tied), 64)
    model = initialise(Transformer(config), seed=0, scheme=by_fan_in)
    ids = torch.randint(301, (4, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model.hidden(ids)
        loss = F.cross_entropy(model.logits(hidden)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    assert abs(loss - (log(301) + 0.5)) < 0.1


def scored_by(config, scale):
    """A decoder whose scores are multiplied with `scale`."""
    block = config.decoder.blocks[0]
    block = replace(block, attention=replace(block.attention, scale=scale))
    return replace(config, decoder=replace(config.decoder, blocks=(block,) * len(config.decoder.blocks)))


FACTORS = {
    "t5": presets.t5(301, 256, 2, 4, 512, head_dim=64),  # leaves scores as they are, and divides what a tied head gets
    "t5 1.1": presets.t5_v1_1(301, 256, 2, 4, 512, head_dim=64),
    "llama": presets.llama(301, 256, 2, 4, 4, 512, 64),
    "llama, other scores": scored_by(presets.llama(301, 256, 2, 4, 4, 512, 64), 0.5),
    "gpt2": presets.gpt2(301, 256, 2, 4, context_length=64),
}


@for_each("config", FACTORS.values())
def test_by_fan_in_scores_and_logits_begin_with_variance_1_whatever_they_are_multiplied_with(config):
    model = initialise(Transformer(config), seed=0, scheme=by_fan_in)
    normalised = torch.randn(4000, 256, generator=torch.Generator().manual_seed(1))
    named = dict(model.named_parameters())
    head = named["embedding.tokens.weight" if config.head.tied else "head.projection.weight"]
    assert (normalised * (config.head.scale or 1.0) @ head.T).std().item() == pytest.approx(1, rel=0.05)
    attentions = [(name, module) for name, module in model.named_modules() if name.endswith("attention")]
    assert attentions
    for name, attention in attentions:
        query, key = (part(normalised).unflatten(-1, (4, -1)) for part in (attention.query, attention.key))
        scores = (query * key.flip(0)).sum(-1) * (attention.scale or 64**-0.5)
        assert scores.std().item() == pytest.approx(1, rel=0.1), name


def test_by_fan_in_what_is_added_to_queries_begins_at_zero_and_distances_as_long_as_keys():
    gopher = initialise(Transformer(presets.gopher(101, 64, 2, 4, 128, context_length=32)), 0, scheme=by_fan_in)
    biases = [weight for name, weight in gopher.named_parameters() if name.endswith(("content_bias", "position_bias"))]
    assert len(biases) == 4 and not any(bias.any() for bias in biases)
    block = c.Block(c.Attention(4, 4, 16, position=c.Shaw(200)), c.FeedForward(256, "gelu"), LAYER, "pre")
    stack, head = c.Stack((block,), True, LAYER), c.LanguageModelHead(tied=True)
    config = c.ModelConfig(c.Embedding(101, 64), None, stack, head, 64)
    model = initialise(Transformer(config), seed=0, scheme=by_fan_in)
    (vectors,) = (weight for name, weight in model.named_parameters() if name.endswith("vectors"))
    assert vectors.std().item() == pytest.approx(16**-0.5, rel=0.1)


def test_every_preset_has_a_scheme():
    assert set(presets.__all__) == set(PUBLISHED)


# ---------------------------------------------------------------------------------------------------------------------
# Depth. An untrained block's part adds about the same contribution c to the residual stream, whatever came before, as
# its input is normalised. Contributions are nearly uncorrelated, so that their squares add:
#
# pre, `x + f(norm(x))`              the stream's RMS is sqrt(e² + N c²) after N parts, e the embedding's: it grows with
#                                    sqrt(N). With c divided by sqrt(N), as in GPT-2, sqrt(e² + c²) at any depth.
# parallel with 2 / (layers sqrt(d)) the contributions fall with 1 / layers: their sum never grows, at most c.
# sandwich                           c = 1, for the contribution itself is normalised: sqrt(e² + N).
# post, `norm(x + f(x))`             1 after every layer, by the norm.
#
# Behind a norm only the direction of x counts, so a gradient by x is inversely proportional to the RMS of x: their
# product is flat over the layers of one model. In a post-norm model each layer multiplies the gradient by a factor that
# is near one (Xavier's weights) and not exactly one, so that it wanders.


def thin(layers, norm_at):
    block = c.Block(c.Attention(4, 4, 16), c.FeedForward(256, "gelu"), LAYER, norm_at)
    stack = c.Stack((block,) * layers, True, None if norm_at == "post" else LAYER)
    return c.ModelConfig(c.Embedding(101, 64), None, stack, c.LanguageModelHead(tied=True), 64)


def by_layer(layers, norm_at, scheme):
    """RMS of the embedding, and of each block's contribution, output, and gradient by the output: (layers,) each."""
    model = initialise(Transformer(thin(layers, norm_at)), seed=0, scheme=scheme)
    inputs, outputs = [], []

    def keep(block, arguments, output):
        output.retain_grad()
        inputs.append(arguments[0].detach())
        outputs.append(output)

    for block in model.decoder.blocks:
        block.register_forward_hook(keep)
    ids = torch.randint(101, (2, 16), generator=torch.Generator().manual_seed(0))
    F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    stream, before = torch.stack([o.detach() for o in outputs]), torch.stack(inputs)

    def rms(x):
        return x.square().mean(dim=(1, 2, 3)).sqrt()

    return rms(before)[0], rms(stream - before), rms(stream), rms(torch.stack([o.grad for o in outputs]))


DEEP = pytest.mark.parametrize("layers", [16, *slow(64)])
UNIT = 64**-0.5  # keeps the size of a normalised vector through a projection


@DEEP
def test_pre_norm_grows_with_the_square_root_of_depth(layers):
    for scheme in (normal(UNIT), PUBLISHED["t5"]):
        (e4, _, shallow, _), (e, change, deep, gradient) = (by_layer(n, "pre", scheme) for n in (4, layers))
        assert change.max() / change.min() < 2.5
        # 16 times the layers, 16 times the square, and up to twice that: attention averages tokens, so that what it
        # adds in one layer resembles what it adds in the next. (Six seeds of 64 layers: 13.5 to 28.5.)
        assert 0.75 < (deep[-1] ** 2 - e**2) / (shallow[-1] ** 2 - e4**2) / (layers / 4) < 2
        relative = gradient * deep
        assert relative.max() / relative.min() < 2.5


@DEEP
def test_scaled_residual_projections_keep_pre_norm_flat_at_any_depth(layers):
    for scheme in (residual_scaled(UNIT), by_fan_in, PUBLISHED["gpt2"]):
        ends = []
        for count in (4, layers):
            embedding, change, stream, gradient = by_layer(count, "pre", scheme)
            ends.append(stream[-1])
            assert change.max() / change.min() < 2.5
            assert stream[-1] > 1.2 * embedding  # the layers do something
            relative = gradient * stream
            assert relative.max() / relative.min() < 2.5
        assert max(ends) / min(ends) < 1.2


@DEEP
def test_switch_is_nearly_flat_without_scaling(layers):
    """Its tokens have RMS 1, and a tenth of the variance in both projections of a part leaves c² of about 0.01."""
    embedding, _, stream, gradient = by_layer(layers, "pre", PUBLISHED["switch"])
    assert 1.0 < stream[-1] / embedding < 1.25
    assert 0.8 < gradient[0] / gradient[-1] < 1.25


@pytest.mark.parametrize(("layers", "bound"), [(6, 2.5), (12, 2.5), *slow((64, 20))])
def test_post_norm_is_constant(layers, bound):
    """At the depths of the papers the gradients are; at 64 layers they wander by an order of magnitude."""
    for scheme in (PUBLISHED["transformer"], PUBLISHED["bert"]):
        _, _, stream, gradient = by_layer(layers, "post", scheme)
        torch.testing.assert_close(stream, torch.ones(layers), atol=1e-3, rtol=0)
        assert gradient.max() / gradient.min() < bound


@DEEP
def test_sandwich_norm_adds_contributions_of_one(layers):
    for scheme in (normal(0.02), normal(UNIT)):
        embedding, _, stream, gradient = by_layer(layers, "sandwich", scheme)
        expected = (embedding**2 + 2 * torch.arange(1, layers + 1)).sqrt()
        torch.testing.assert_close(stream, expected, atol=0, rtol=0.3)
        relative = gradient * stream
        assert relative.max() / relative.min() < 2.5


@DEEP
def test_gpt_neox_contributions_fall_with_depth(layers):
    """Uncorrelated contributions of c / layers add to c / sqrt(layers): a quarter for 16 times the layers."""
    (e4, _, shallow, _), (e, _, deep, gradient) = (by_layer(n, "parallel", PUBLISHED["gpt_neox"]) for n in (4, layers))
    ratio = ((deep[-1] ** 2 - e**2) / (shallow[-1] ** 2 - e4**2)).sqrt()
    assert 0.8 < ratio * sqrt(layers / 4) < 1.4
    relative = gradient * deep
    assert relative.max() / relative.min() < 2.5
