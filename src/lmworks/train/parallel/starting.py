"""`python -m lmworks.train.parallel.starting TASK PROCESSES`: torchrun, which leaves word of the process that died.

See `launching.py`. Nothing here is for a user to call.
"""

import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main

from lmworks.train.parallel.task import Death


def start(task: Path, processes: int) -> int:
    """Until the workers have ended; the exit status. When one dies, the others are ended, too."""
    try:
        main(["--standalone", f"--nproc-per-node={processes}", "-m", "lmworks.train.parallel.worker", str(task)])
    except ChildFailedError as failed:
        rank, failure = min(failed.failures.items(), key=lambda each: _order(each[1]))
        Death(rank, -failure.exitcode if failure.exitcode < 0 else None).write(task.parent)
        return 1
    return 0


def _order(failure: ProcessFailure) -> tuple[bool, float]:
    """Those that a signal ended first: the others fail because they wait for them, or are told to end."""
    return failure.exitcode >= 0 or failure.exitcode == -signal.SIGTERM, failure.timestamp


if __name__ == "__main__":
    sys.exit(start(Path(sys.argv[1]), int(sys.argv[2])))
