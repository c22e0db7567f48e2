"""`python -m lmworks.train.parallel.torchrun_start TASK PROCESSES`: torchrun that records which process died.

See `launcher.py`. Nothing here is for a user to call.
"""

import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main

from lmworks.train.parallel.task import Death

_PATIENCE = 30  # seconds, of torchrun


def start(task: Path, processes: int) -> int:
    """Until the workers have ended; the exit status. When one dies, the others are ended, too."""
    try:
        main(["--standalone", f"--nproc-per-node={processes}", "-m", "lmworks.train.parallel.rank_worker", str(task)])
    except ChildFailedError as failed:
        rank, failure = min(failed.failures.items(), key=lambda each: _order(each[1]))
        Death(rank, -failure.exitcode if failure.exitcode < 0 else None).write(task.parent)
        return 1
    except SignalException as told:  # by whoever started it, and has its reason: a trace would look like a failure
        return 128 + told.sigval
    return 0


def _order(failure: ProcessFailure) -> float:
    """A process that a signal ended comes before the others, which fail because they wait for it or are told to end.
    But torchrun, too, ends by a signal what does not end when it is told to, `_PATIENCE` seconds after
    another failed."""
    signalled = failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM
    return failure.timestamp - (_PATIENCE - 1 if signalled else 0)


if __name__ == "__main__":
    sys.exit(start(Path(sys.argv[1]), int(sys.argv[2])))
