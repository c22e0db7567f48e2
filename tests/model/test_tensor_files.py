import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kit.tables import for_each
from lmworks.model.config import UnsupportedModel
from lmworks.model.tensor_files import read_weights, write_tensors

INDEX = "model.safetensors.index.json"


def tensors(dtype=torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"layer.{i}.weight": torch.randn(4, 2 + i, generator=generator).to(dtype) for i in range(5)}


def write(folder, weights, shard_size=10**9):
    write_tensors(folder, weights, {name: tensor.nbytes for name, tensor in weights.items()}, shard_size)
    return folder


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    """As on a full disk, of which safetensors makes an error of its own."""
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match=r"model\.safetensors cannot be written"):
        write(tmp_path, {"weight": torch.zeros(10)})


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert torch.equal(first[name], second[name])


@for_each("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@for_each("shard_size", [1, 100, 10**9])
def test_what_is_written_is_what_is_read(dtype, shard_size, tmp_path):
    weights = tensors(dtype)
    found = read_weights(write(tmp_path, weights, shard_size))
    assert_same(found, weights)
    assert len(found) == 5


def test_shards_hold_what_the_size_allows_and_a_larger_tensor_alone(tmp_path):
    write(tmp_path, tensors(), shard_size=100)  # the tensors have 32, 48, 64, 80 and 96 bytes
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 320
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    assert [len(load_file(tmp_path / file)) for file in files] == [2, 1, 1, 1]
    assert len(list(write_one(tmp_path / "each", 1).glob("*.safetensors"))) == 5


def write_one(folder, shard_size):
    folder.mkdir()
    return write(folder, tensors(), shard_size)


def test_a_tensor_of_a_file_may_be_trained_without_a_change_of_the_file(tmp_path):
    """The mapping is private: pages are copied when they are written to."""
    weights = tensors()
    mapped = read_weights(write(tmp_path, weights))["layer.0.weight"]
    mapped.zero_()
    assert_same(read_weights(tmp_path), weights)


# ---------------------------------------------------------------------------------------------------------------------
# Refusals


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        read_weights(tmp_path)


@for_each("dtype", [torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_a_dtype_that_no_weight_has_is_named_when_it_is_read(dtype, tmp_path):
    save_file({"right": torch.ones(2), "wrong": torch.ones(2).to(dtype)}, tmp_path / "model.safetensors")
    found = read_weights(tmp_path)
    assert found["right"].tolist() == [1, 1]
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(
        UnsupportedModel, match=rf"model\.safetensors: wrong has dtype {kind}; supported: dense float64"
    ):
        found["wrong"]


def test_an_index_that_does_not_fit_the_files(tmp_path):
    write(tmp_path, tensors(), shard_size=100)
    original = json.loads((tmp_path / INDEX).read_text())

    def refuse(change, error, message):
        document = json.loads(json.dumps(original))
        change(document["weight_map"])
        (tmp_path / INDEX).write_text(json.dumps(document))
        with pytest.raises(error, match=message):
            read_weights(tmp_path)

    file = original["weight_map"]["layer.0.weight"]
    other = original["weight_map"]["layer.4.weight"]
    refuse(lambda m: m.update({"layer.0.weight": other}), ValueError, rf"{file} .* lacks \[\] and has .*layer.0.weight")
    refuse(lambda m: m.update({"extra": "gone.safetensors"}), FileNotFoundError, "gone.safetensors is missing")
    refuse(lambda m: m.update({"extra": file}), ValueError, rf"{file} does not fit the index: it lacks \['extra'\]")
    refuse(lambda m: m.pop("layer.0.weight"), ValueError, r"has \['layer.0.weight'\] besides")
    refuse(lambda m: m.update({"extra": "../secret"}), ValueError, "extra is in '../secret'")
    refuse(lambda m: m.update({"extra": 3}), ValueError, "extra is in 3")
    refuse(lambda m: m.clear(), ValueError, "has no weight_map")
    for text, message in (("[]", "JSON list"), ("{", "is not JSON"), ("{}", "no weight_map")):
        (tmp_path / INDEX).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_weights(tmp_path)


@for_each("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", b"GGUF\3\0\0\0"])
def test_another_file_of_the_right_name(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file.*download it again"):
        read_weights(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_found_or_changes_only_values(data, tmp_path):
    """A byte changed or the end cut off, anywhere: a ValueError, or every tensor with its name, shape and dtype."""
    weights = tensors(torch.bfloat16)
    save_file(weights, tmp_path / "model.safetensors")
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / "model.safetensors").unlink()  # hypothesis runs all examples in one folder
    (tmp_path / "model.safetensors").write_bytes(content)
    try:
        found = dict(read_weights(tmp_path))
    except ValueError as error:
        assert str(error).startswith("model.safetensors")
        return
    kept = found.keys() & weights.keys()
    assert len(found) == len(weights)
    assert len(kept) >= len(weights) - 1  # a changed name is found by whoever asks for the right one
    for name in kept:
        assert (found[name].shape, found[name].dtype) == (weights[name].shape, torch.bfloat16)


# ---------------------------------------------------------------------------------------------------------------------
# Pickles


def test_pickles_are_refused_unless_asked_for(tmp_path):
    torch.save(tensors(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match=r"only pickled weights \(pytorch_model\.bin\).*pickle=True"):
        read_weights(tmp_path)
    assert_same(read_weights(tmp_path, pickle=True), tensors())


def test_pickled_shards_parameters_and_the_format_before_pytorch_1_6(tmp_path):
    weights = tensors()
    torch.save({"layer.0.weight": torch.nn.Parameter(weights["layer.0.weight"])}, tmp_path / "a.bin")
    rest = {name: tensor for name, tensor in weights.items() if name != "layer.0.weight"}
    torch.save(rest, tmp_path / "b.bin", _use_new_zipfile_serialization=False)
    index = {"weight_map": {name: "a.bin" if name == "layer.0.weight" else "b.bin" for name in weights}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = read_weights(tmp_path, pickle=True)
    assert_same(found, weights)
    assert not found["layer.0.weight"].requires_grad


def test_safetensors_come_before_pickles(tmp_path):
    write(tmp_path, tensors())
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    assert_same(read_weights(tmp_path, pickle=True), tensors())


class MakesFolder:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@for_each("zipped", [True, False])
def test_a_pickle_that_runs_code_is_stopped(zipped, tmp_path):
    victim = tmp_path / "made-by-the-pickle"
    torch.save({"a": MakesFolder(victim)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin was refused: it would call posix\.mkdir; only tensors"):
        read_weights(tmp_path, pickle=True)
    assert not victim.exists()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "pytorch_model.bin").write_bytes(pickle.dumps(MakesFolder(victim), protocol=2))
    with pytest.raises(ValueError, match="was refused"):
        read_weights(tmp_path / "plain", pickle=True)
    assert not victim.exists()
    torch.load(tmp_path / "pytorch_model.bin", weights_only=False)  # the payload is a real one
    assert victim.exists()


@for_each(
    ("content", "message"),
    [
        ({"model": {"a": torch.ones(1)}}, "'model' is a dict, not a tensor"),
        ({0: torch.ones(1)}, "0 is a Tensor, not a tensor"),
        ([torch.ones(1)], "holds a list, not tensors by their names"),
    ],
)
def test_a_pickle_of_other_things(content, message, tmp_path):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path, pickle=True)


def test_a_pickled_tensor_without_values_is_refused(tmp_path):
    torch.save({"a": torch.empty(2, device="meta"), "b": torch.eye(2).to_sparse()}, tmp_path / "pytorch_model.bin")
    found = read_weights(tmp_path, pickle=True)
    for name in "ab":
        with pytest.raises(UnsupportedModel, match=f"{name} has dtype float32 and is not dense"):
            found[name]


@for_each("share", [0.0, 0.3, 0.9])
def test_a_truncated_pickle_and_a_gguf_file_under_its_name(share, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match="it is damaged"):
        read_weights(tmp_path, pickle=True)
    path.write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(ValueError, match="it is damaged"):
        read_weights(tmp_path, pickle=True)


# ---------------------------------------------------------------------------------------------------------------------
# Memory


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "load_memory.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_no_more_memory_than_the_model_has():
    command = [sys.executable, str(BENCHMARK), "--layers", "3", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {row["way"]: row for row in map(json.loads, output.splitlines())}
    parameters = 3 * 44_044_288 + 2 * 32_000 * 2048 + 2048
    assert rows["open, as stored"]["ratio"] < 0.1
    for way in ("read every weight, as stored", "fingerprint, as stored"):
        assert rows[way]["ratio"] < 1.1
        assert rows[way]["RssAnon"] < 0.1 * 2 * parameters
    # A conversion needs its result and, mapped for that long, the tensor it converts: the embedding is the largest.
    for way, width in (("load as float16", 2), ("load as float32", 4)):
        assert rows[way]["RssAnon"] < 1.1 * width * parameters
        assert rows[way]["VmRSS"] < 1.1 * (width * parameters + 2 * 32_000 * 2048)
