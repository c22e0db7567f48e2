"""The processes in which parallel training is tested."""

import pytest
import torch
import torch.distributed as dist

from kit.tables import for_each
from lmworks.data.loader import Loader
from lmworks.train.config import TrainConfig
from lmworks.train.loop import _Clock
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.parallel.ranks import Ranks, device_of_rank
from lmworks.train.run import Run
from ranks import on_ranks
from training_cases import loader_config, new_checkpoint, write_text_dataset


def _total(start: int) -> tuple[int, float]:
    value = torch.tensor([float(start + dist.get_rank())])
    dist.all_reduce(value)
    return dist.get_rank(), float(value)


def _raises_on_one() -> None:
    if dist.get_rank() == 1:
        raise RuntimeError("of rank one")
    dist.barrier()


def test_ranks_join_and_answer_in_their_order() -> None:
    assert on_ranks(4, _total, 10) == [(rank, 46.0) for rank in range(4)]


def test_a_rank_that_raises_is_named() -> None:
    with pytest.raises(AssertionError, match=r"rank 1: (?s:.*)of rank one"):
        on_ranks(2, _raises_on_one)


class _Ranks(Ranks):
    size, device = 8, torch.device("cpu")  # type: ignore[assignment]


@for_each(
    ("device", "machines", "cores", "threads", "peaks"),
    [
        ("cuda", 2, 16, 4, 8),  # a GPU each
        ("cpu", 1, 16, 16, 1),  # each was measured with all cores
        ("cpu", 2, 16, 16, 2),
        ("cpu", 1, 16, 4, 4),  # with a quarter of them, of which there are four
        ("cpu", 1, 64, 4, 8),  # there are more cores than they use
        ("cpu", 1, 8, 16, 1),
    ],
)
def test_processes_of_one_machine_share_its_cores(device, machines, cores, threads, peaks, monkeypatch, tmp_path):
    """And so a run on them is as far from the peak as one process that is as fast."""
    monkeypatch.setattr(_Ranks, "device", torch.device(device))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv("GROUP_WORLD_SIZE", str(machines))
    assert _Ranks().peaks == peaks
    assert Ranks().peaks == 1
    loader = Loader(loader_config(write_text_dataset(tmp_path / "d")))
    run = Run(new_checkpoint(), CausalLanguageModel(), loader, TrainConfig(), tmp_path / "run", peak_flops=1e9)
    clock = _Clock(run)
    run.position.tokens, run.ranks = 10**6, _Ranks()
    rates = clock.rates()
    assert rates["utilisation"] == pytest.approx(rates["tokens_per_second"] * clock.flops_per_token / (peaks * 1e9))


@for_each(
    ("gpus", "environment", "device"),
    [
        (0, {}, "cpu"),
        (1, {}, "cuda:0"),
        (2, {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, "cuda:1"),
        (1, {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, "cpu"),
    ],
)
def test_a_process_has_a_gpu_where_there_is_one_for_each(gpus, environment, device, monkeypatch) -> None:
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device_of_rank() == torch.device(device)
