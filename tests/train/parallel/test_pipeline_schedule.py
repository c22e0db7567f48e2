"""Orders of a pipeline: each can be followed, keeps and waits as its paper says, and is PyTorch's."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules as theirs

from kit.tables import for_each
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.pipeline_schedule import Action, forward_only, schedules, steps, timeline
from lmworks.train.planning.compute import bubble_share
from lmworks.train.planning.layout import Layout, pieces_in_flight


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Any pipeline and number of micro-batches, fewer than devices included."""
    devices, chunks = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    schedule = draw(st.sampled_from(("1f1b", "gpipe")))
    if devices == 1 or schedule == "gpipe":
        chunks = 1
    micro_batches = draw(st.integers(1, 4)) * devices if chunks > 1 else draw(st.integers(1, 20))
    return Layout(pipeline=devices, chunks=chunks, schedule=schedule, micro_batches=micro_batches)


def orders_of(layout: Layout) -> list[list[Action]]:
    return schedules(layout, layout.micro_batches)


@given(layouts())
def test_each_device_takes_each_micro_batch_forward_and_then_backward_through_each_chunk(layout: Layout) -> None:
    for order in orders_of(layout):
        places = {action: place for place, action in enumerate(order)}
        assert len(order) == len(places) == 2 * layout.micro_batches * layout.chunks
        for micro_batch in range(layout.micro_batches):
            for chunk in range(layout.chunks):
                assert places["forward", micro_batch, chunk] < places["backward", micro_batch, chunk]


@given(layouts())
def test_a_device_keeps_what_the_memory_model_says(layout: Layout) -> None:
    for rank, order in enumerate(orders_of(layout)):
        kept = most = 0
        for action in order:
            kept += 1 if action.kind == "forward" else -1
            most = max(most, kept)
        assert most / layout.chunks == pieces_in_flight(layout, rank)


@given(layouts(), st.integers(1, 3), st.integers(1, 3))
def test_the_time_lost_is_that_of_the_papers(layout: Layout, forward: int, backward: int) -> None:
    """(p - 1) / (v m) of the time in which a device works, whatever a forward and a backward take."""
    timed = timeline(orders_of(layout), forward, backward)
    whole = max(mine[-1].start + backward for mine in timed)
    works = layout.micro_batches * layout.chunks * (forward + backward)
    assert whole == pytest.approx(works * (1 + bubble_share(layout)))


def follow(orders: list[list[Action]]) -> tuple[set[Action], ...]:
    """All devices go through their steps, with messages that are sent and received in order, and nothing but order:
    what each has done in the end."""
    devices, chunks = len(orders), 1 + max(action.chunk for order in orders for action in order)
    todo = [steps(orders, rank) for rank in range(devices)]
    done: tuple[set[Action], ...] = tuple(set() for _ in orders)
    arrived: list[set[Action]] = [set() for _ in orders]
    lines: dict[tuple[int, int], list[Action]] = {}  # (sender, receiver) → what was sent, not yet received
    going = True
    while going:
        going = False
        for rank in range(devices):
            while todo[rank]:
                step, first, last = todo[rank][0], rank == 0, rank == devices - 1
                if step.action is not None and step.action not in done[rank]:
                    kind, micro_batch, chunk = step.action
                    outside = (first and chunk == 0) if kind == "forward" else (last and chunk == chunks - 1)
                    if not outside:
                        arrived[rank].remove(step.action)  # KeyError: not there when it is needed
                    if kind == "backward":
                        assert Action("forward", micro_batch, chunk) in done[rank]
                    done[rank].add(step.action)
                    if step.send is not None:
                        lines.setdefault((rank, step.send.receiver), []).append(step.send.action)
                if not all(lines.get((each.sender, rank)) for each in step.receive):
                    break
                for each in step.receive:
                    assert lines[each.sender, rank].pop(0) == each.action
                    arrived[rank].add(each.action)
                todo[rank].pop(0)
                going = True
    assert not any(todo) and not any(arrived) and not any(lines.values())
    return done


@given(layouts())
def test_messages_arrive_in_time_and_in_the_order_in_which_both_ends_expect_them(layout: Layout) -> None:
    orders = orders_of(layout)
    assert follow(orders) == tuple(set(order) for order in orders)
    alone = [forward_only(layout.pipeline, layout.chunks, layout.micro_batches)] * layout.pipeline
    assert follow(alone) == tuple(set(order) for order in alone)


def test_orders_that_wait_for_each_other_are_found() -> None:
    first = [Action("forward", 0), Action("backward", 0), Action("forward", 1), Action("backward", 1)]
    second = [Action("forward", 0), Action("forward", 1), Action("backward", 0), Action("backward", 1)]
    with pytest.raises(ValueError, match="wait for each other"):
        timeline([first, second])


def theirs_of(kind: str, layout: Layout, rank: int) -> list[Action]:
    devices, chunks, micro_batches = layout.pipeline, layout.chunks, layout.micro_batches
    if kind == "ScheduleInterleaved1F1B":
        settings: Any = SimpleNamespace(
            n_local_stages=chunks, microbatches_per_round=devices, pp_group_size=devices, _n_microbatches=micro_batches
        )
        found = theirs.ScheduleInterleaved1F1B._calculate_single_rank_operations(settings, rank)
    else:
        settings = SimpleNamespace(_num_stages=devices, _n_microbatches=micro_batches)
        found = getattr(theirs, kind)._get_pipeline_order(settings)[rank]
    kinds = {"FORWARD": "forward", "FULL_BACKWARD": "backward"}
    return [
        Action(kinds[each.computation_type.name], each.microbatch_index, each.stage_index // devices)  # type: ignore[arg-type]
        for each in found
        if each is not None and each.computation_type.name in kinds
    ]


@for_each("micro_batches", [4, 8, 12])
@for_each("kind", ["ScheduleGPipe", "Schedule1F1B", "ScheduleInterleaved1F1B"])
def test_orders_are_those_of_pytorch(kind: str, micro_batches: int) -> None:
    layout = Layout(
        pipeline=4,
        chunks=3 if kind == "ScheduleInterleaved1F1B" else 1,
        schedule="gpipe" if kind == "ScheduleGPipe" else "1f1b",
        micro_batches=micro_batches,
    )
    for rank, order in enumerate(orders_of(layout)):
        expected = theirs_of(kind, layout, rank)
        if kind == "Schedule1F1B" and rank == 3:  # whose forwards they number from 1 in this listing, not as they run
            assert [action.kind for action in order] == [action.kind for action in expected]
        else:
            assert order == expected


def test_chunks_take_multiples_of_the_devices() -> None:
    with pytest.raises(ValueError, match="a multiple of micro_batch · pipeline"):
        schedules(ParallelConfig(pipeline=4, chunks=2), 6)


def test_the_picture_of_the_page_is_of_these_orders() -> None:
    docs = Path(__file__).parents[3] / "docs"
    assert (docs / "pipeline.svg").read_text("utf-8") == runpy.run_path(str(docs / "pipeline.py"))["draw"]()
