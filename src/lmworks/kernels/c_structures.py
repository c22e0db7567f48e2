"""The C structures of `cpp/abi.h`, field by field, and the addresses of tensors for them.

A structure points into tensors and does not keep them: they must be kept alive while it is used.
"""

import ctypes
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_int64, c_void_p
from typing import Literal, get_args

from torch import Tensor

from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.weight_formats import FORMATS

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
Site = Literal["qkv", "output", "gate_up", "down"]

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
SITES: tuple[Site, ...] = get_args(Site)
NORMS = ("rms", "layer")


class Matrix(Structure):
    _fields_ = (("values", c_void_p), ("bias", c_void_p), ("rows", c_int64), ("columns", c_int64), ("format", c_int32))


class Norm(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("kind", c_int32), ("eps", c_float))


class Change(Structure):
    _fields_ = (("a", c_void_p), ("b", c_void_p), ("first", c_int64), ("rows", c_int64), ("rank", c_int64))


class Changes(Structure):
    _fields_ = (("changes", POINTER(Change)), ("count", c_int64))


LAYER_NORMS = (
    *("attention_norm", "query_norm", "key_norm", "attention_post_norm"),
    *("feed_forward_norm", "feed_forward_post_norm"),
)


LAYER_NUMBERS = (
    *("heads", "kv_heads", "head_dim", "window", "first", "scale", "softcap"),
    *("gated", "parallel", "in_place", "bidirectional", "group"),
)


class Layer(Structure):
    _fields_ = (
        *((name, Norm) for name in LAYER_NORMS),
        *((name, Matrix) for name in SITES),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("pages", c_void_p),
        ("page_count", c_int64),
        *(
            (name, c_int32)
            for name in ("heads", "kv_heads", "head_dim", "rotated", "rotation_length", "window", "first")
        ),
        ("scale", c_float),
        ("softcap", c_float),
        *((name, c_int32) for name in ("activation", "gated", "parallel")),
        *((name, c_int32) for name in ("in_place", "bidirectional", "cache_format", "group")),
    )


class Model(Structure):
    _fields_ = (
        ("layers", POINTER(Layer)),
        ("positions", c_void_p),
        ("adapters", POINTER(Changes)),
        ("layer_count", c_int64),
        ("adapter_count", c_int64),
        ("position_count", c_int64),
        ("embedding", Matrix),
        ("head", Matrix),
        ("final_norm", Norm),
        ("embedding_scale", c_float),
        ("head_softcap", c_float),
    )


class Table(Structure):
    _fields_ = (("pages", c_void_p), ("length", c_int64))


class Batch(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("ids", "positions", "sequences", "adapters", "wanted")),
        ("tables", POINTER(Table)),
        *((name, c_void_p) for name in ("logits", "best", "log_normaliser", "hidden")),
        *((name, c_int64) for name in ("tokens", "rows", "sequence_count", "group_count", "error_at")),
    )


class TokenSampling(Structure):
    _fields_ = (
        ("scores", c_void_p),
        *((name, c_int64) for name in ("count", "top_k")),
        *((name, c_double) for name in ("temperature", "typical_p", "top_p", "min_p", "uniform", "log_probability")),
        ("token", c_int64),
    )


class HeadsView(Structure):
    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("head_stride", c_int64), ("place_stride", c_int64))


HEADS_VIEWS = (
    *("query", "key", "value", "output"),
    *("output_gradient", "query_gradient", "key_gradient", "value_gradient"),
)


class TrainedAttention(Structure):
    _fields_ = (
        *((name, HeadsView) for name in HEADS_VIEWS),
        *((name, c_void_p) for name in ("first", "last", "log_sum")),
        *((name, c_int64) for name in ("batch", "heads", "kv_heads", "length", "stored", "head_dim")),
        ("scale", c_float),
        ("format", c_int32),
    )


class AdamWStep(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("weight", "first_moment", "second_moment", "gradient", "rounded")),
        ("count", c_int64),
        ("gradient_format", c_int32),
        *((name, c_float) for name in ("factor", "beta1", "beta2", "new_in_first", "new_in_second")),
        *((name, c_float) for name in ("kept", "rate", "deviation_scale", "epsilon")),
    )


ALL = (Matrix, Norm, Change, Changes, Layer, Model, Table, Batch, TokenSampling, TrainedAttention, AdamWStep)
SIZES = tuple(ctypes.sizeof(structure) for structure in ALL)


def matrix(packed: PackedMatrix | None) -> Matrix:
    if packed is None:
        return Matrix()
    format_number = FORMATS.index(packed.format)
    return Matrix(address(packed.values), address(packed.bias), packed.rows, packed.columns, format_number)


def address(tensor: Tensor | None) -> int | None:
    """The address of a tensor; ValueError unless it is contiguous and in memory."""
    if tensor is None:
        return None
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError("the kernels read contiguous tensors in memory: call .cpu().contiguous() first")
    return tensor.data_ptr()
