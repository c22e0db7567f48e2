"""Positions against the formulas of their papers, and against transformers where it has them, to the last bit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.model import config as configs
from lmworks.model.config import Embedding, Learned, LinearScaling, Llama3Scaling, RelativeBias, Rope, YarnScaling
from lmworks.model.positions import (
    alibi,
    alibi_slopes,
    distances,
    ntk_theta,
    relative_buckets,
    rope_frequencies,
    rotate,
    rotation,
    sinusoids,
)
from lmworks.model.transformer import Embedding as EmbeddingModule

ROPE, HEAD_DIM = Rope(10_000.0), 16


def rotated(vector: torch.Tensor, position: int) -> torch.Tensor:
    turn = rotation(ROPE, HEAD_DIM, torch.tensor([[position]]), torch.float64)
    return rotate(vector.view(1, 1, 1, HEAD_DIM), turn).flatten()


def test_is_multiplication_by_a_unit_complex_number():
    vector = torch.randn(HEAD_DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    planes = torch.complex(vector[: HEAD_DIM // 2], vector[HEAD_DIM // 2 :])
    angles = 7 * 10_000.0 ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    expected = planes * torch.polar(torch.ones_like(angles), angles)
    # Angles are float32, so they carry a relative error of some 1e-7.
    torch.testing.assert_close(rotated(vector, 7), torch.cat((expected.real, expected.imag)), atol=1e-5, rtol=0)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 2**31))
def test_products_depend_on_distance_alone(query_at, key_at, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, HEAD_DIM, dtype=torch.float64, generator=generator)
    here = rotated(query, query_at) @ rotated(key, key_at)
    there = rotated(query, query_at + shift) @ rotated(key, key_at + shift)
    # A float32 angle of up to 1000 is off by up to 3e-5, times the length of both vectors (about 4 each).
    torch.testing.assert_close(here, there, atol=5e-3, rtol=0)


def test_angles_do_not_lose_positions_in_low_precision():
    """Position 257 does not exist in bfloat16: it would be rotated like 256."""
    first, second = (rotation(ROPE, HEAD_DIM, torch.tensor([[p]]), torch.bfloat16)[1] for p in (256, 257))
    assert not torch.equal(first, second)
    assert first.dtype == torch.bfloat16


@for_each("theta", [10_000.0, 500_000.0])
def test_angles_are_as_right_as_float32_allows_up_to_131072(theta):
    positions = torch.cat((torch.arange(1000), torch.arange(1000, 131_073, 997)))
    cosine, sine = rotation(Rope(theta), 128, positions[None], torch.float32)
    exact = positions[:, None].double() * theta ** (-torch.arange(0, 128, 2, dtype=torch.float64) / 128)
    turned = torch.complex(cosine[0, 0, :, :64].double(), sine[0, 0, :, :64].double())
    error = (turned * torch.polar(torch.ones_like(exact), -exact)).angle().abs()  # radians, (positions, planes)
    # The power, its reciprocal and the product each round once; cosine and sine themselves are right to 1e-7.
    assert (error <= positions[:, None] * 3 * 2.0**-24 + 2e-7).all()


def test_a_fraction_is_rotated_like_a_smaller_head_and_the_rest_stays():
    heads = torch.randn(1, 2, 5, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(5)[None]
    turned = rotate(heads, rotation(Rope(100.0, fraction=0.25), HEAD_DIM, positions, heads.dtype))
    small = rotate(heads[..., :4], rotation(Rope(100.0), 4, positions, heads.dtype))
    assert torch.equal(turned, torch.cat((small, heads[..., 4:]), dim=-1))


YARN = {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
SCALINGS = {
    "linear": (LinearScaling(3.0), {"rope_type": "linear", "factor": 3.0}),
    "llama3": (
        Llama3Scaling(8.0, 8192),
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "yarn": (YarnScaling(40.0, 4096), YARN),
    "yarn, whole planes or not": (YarnScaling(40.0, 4096, truncate=False), YARN | {"truncate": False}),
    "yarn, attention factor": (YarnScaling(40.0, 4096, attention_factor=1.5), YARN | {"attention_factor": 1.5}),
    "yarn, borders": (YarnScaling(40.0, 4096, 16.0, 2.0), YARN | {"beta_fast": 16.0, "beta_slow": 2.0}),
    "yarn, short": (YarnScaling(4.0, 64), YARN | {"factor": 4.0, "original_max_position_embeddings": 64}),
    "yarn, no factor": (YarnScaling(1.0, 4096), YARN | {"factor": 1.0}),
}


@for_each("fraction", [1.0, 0.5])
@for_each("theta", [10_000.0, 500_000.0])
@for_each("name", SCALINGS)
def test_scaled_frequencies_are_those_of_transformers_to_the_last_bit(name, theta, fraction):
    transformers = pytest.importorskip("transformers")
    scaling, parameters = SCALINGS[name]
    settings = transformers.LlamaConfig(
        hidden_size=256,
        num_attention_heads=2,
        max_position_embeddings=163_840,
        rope_parameters=parameters | {"rope_theta": theta, "partial_rotary_factor": fraction},
    )
    theirs = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[parameters["rope_type"]](settings)
    frequencies, factor = rope_frequencies(Rope(theta, fraction, scaling), int(128 * fraction))
    assert torch.equal(frequencies, theirs[0])
    assert factor == theirs[1]


def test_ntk_slows_the_slowest_plane_by_the_factor_and_leaves_the_fastest():
    plain, _ = rope_frequencies(ROPE, 64)
    slowed, _ = rope_frequencies(Rope(ntk_theta(10_000.0, 8.0, 64)), 64)
    # float32 frequencies, each a power with a relative error of some 1e-7
    torch.testing.assert_close(plain / slowed, 8 ** (torch.arange(32) / 31), rtol=1e-6, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# ALiBi


def test_slopes_of_the_paper():
    assert alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    torch.testing.assert_close(alibi_slopes(16), 2 ** (-torch.arange(1, 17) / 2))


@for_each("heads", range(1, 41))
def test_slopes_are_those_of_bloom(heads):
    modeling = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    # BLOOM takes powers of a rounded base where ours is rounded once
    theirs = modeling.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(heads), theirs, rtol=1e-6, atol=0)


@given(st.integers(1, 12), st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 5))
def test_alibi_is_minus_slope_times_distance(heads, keys, length):
    queries = torch.arange(length)[None] * 7
    bias = alibi(heads, distances(queries, torch.tensor([keys])), torch.float32)
    assert bias.shape == (1, heads, length, len(keys))
    for head, slope in enumerate(alibi_slopes(heads).tolist()):
        for at, query in enumerate(queries[0].tolist()):
            for to, key in enumerate(keys):
                assert bias[0, head, at, to].item() == pytest.approx(-slope * abs(query - key), rel=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# T5's buckets


@for_each("both_directions", [True, False])
@for_each(("buckets", "max_distance"), [(32, 128), (32, 800), (8, 20), (64, 693), (6, 7)])
def test_buckets_are_those_of_t5(buckets, max_distance, both_directions):
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = torch.cat((torch.arange(-5000, 5001), torch.tensor([-(10**6), 10**6])))
    theirs = modeling.T5Attention._relative_position_bucket(-distance, both_directions, buckets, max_distance)
    assert torch.equal(relative_buckets(RelativeBias(buckets, max_distance, both_directions), distance), theirs)


@given(st.integers(1, 32), st.integers(1, 500), st.booleans(), st.integers(0, 4000))
def test_buckets_are_exact_then_grow_to_the_last_one(quarter, beyond, both_directions, distance):
    config = RelativeBias(4 * quarter, 2 * quarter + beyond, both_directions)
    bucket, after = relative_buckets(config, torch.tensor([distance, distance + 1])).tolist()
    one_side = 2 * quarter if both_directions else 4 * quarter
    assert 0 <= bucket <= after <= one_side - 1
    if distance < one_side // 2:
        assert bucket == distance
    if distance > config.max_distance:
        assert bucket == one_side - 1
    ahead = relative_buckets(config, torch.tensor([-distance])).item()
    assert ahead == (bucket + one_side * (distance > 0) if both_directions else 0)


@for_each(("buckets", "max_distance", "both"), [(32, 16, False), (32, 8, True), (1, 9, False), (3, 9, True)])
def test_buckets_without_an_exact_or_a_logarithmic_one_are_refused(buckets, max_distance, both):
    with pytest.raises(ValueError, match="max_distance"):
        RelativeBias(buckets, max_distance, both)
    RelativeBias(32, 17)


# ---------------------------------------------------------------------------------------------------------------------
# Absolute positions


def test_sinusoids_are_the_papers_up_to_the_order_of_the_width():
    ours = sinusoids(torch.arange(300), 24, 10_000.0, torch.float64)
    for position in range(0, 300, 23):
        for i in range(12):
            angle = position / 10_000 ** (2 * i / 24)
            # a float32 angle of up to 300 is off by up to 3e-5
            assert ours[position, i].item() == pytest.approx(math.sin(angle), abs=5e-5)
            assert ours[position, 12 + i].item() == pytest.approx(math.cos(angle), abs=5e-5)


@given(st.integers(0, 3), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_a_learned_position_is_its_row_after_the_offset(offset, positions):
    embedding = EmbeddingModule(Embedding(vocabulary=3, width=4, positions=Learned(10, offset)))
    assert embedding.positions is not None
    assert embedding.positions.weight.shape == (10 + offset, 4)
    with torch.no_grad():
        embedding.positions.weight.copy_(torch.arange(10 + offset)[:, None].expand(-1, 4))
    hidden = embedding(torch.zeros(1, len(positions), dtype=torch.int64), torch.tensor([positions]))
    assert hidden[0, :, 0].tolist() == [float(position + offset) for position in positions]


@for_each("position", [0, 131_072, 2**24])
def test_everything_is_finite_in_bfloat16(position):
    at, low = torch.tensor([[position]]), torch.bfloat16
    scalings = [None, *(scaling for scaling, _ in SCALINGS.values())]
    tensors = [part for scaling in scalings for part in rotation(Rope(1e4, 1.0, scaling), 128, at, low)]
    tensors += [sinusoids(at, 64, 1e4, low), alibi(12, distances(at, torch.zeros_like(at)), low)]
    assert all(tensor.isfinite().all() and tensor.dtype == low for tensor in tensors)
    assert 0 <= relative_buckets(configs.RelativeBias(), at).item() < 32
