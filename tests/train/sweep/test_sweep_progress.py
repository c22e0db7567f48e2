"""What a sweep tells while it runs: the progress of one run as that of all."""

from types import SimpleNamespace
from typing import Any

from kit.tables import for_each
from lmworks.train.sweep.stage import _Progress


@for_each(("number", "kept", "begins"), [(0, 0, 0), (1, 4, 20)])
def test_only_how_an_interrupted_run_is_gone_on_with_stays_to_be_read(number, kept, begins):
    told = []

    def report(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
        told.append((done, total, unit, kept, note))

    ladder: Any = SimpleNamespace(seconds=100.0, rungs=[SimpleNamespace(seconds=20.0), SimpleNamespace(seconds=80.0)])
    progress = _Progress(report, ladder)
    progress.report_run(number, kept, 1_000, "batches", kept, "continues, or restarts")
    progress.report_run(number, kept + 1, 1_000, "batches", kept, "loss 4.000")  # of all too little to be counted
    progress.report_run(1, 900, 1_000, "batches", kept, "loss 3.000")
    assert [(done, of) for done, _, _, of, _ in told] == [(begins, begins), (begins + 1, begins), (92, begins)]
    assert told[0][1:3] == (100, "expected seconds")
    assert told[0][4] == f"run {number + 1} of 2 · continues, or restarts" and told[2][4] == "run 2 of 2 · loss 3.000"
