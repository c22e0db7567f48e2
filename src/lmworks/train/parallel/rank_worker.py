"""`python -m lmworks.train.parallel.rank_worker TASK`, by torchrun: one of the processes of a training stage.

See `launcher.py`. Nothing here is for a user to call.
"""

import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from lmworks.config import from_mapping
from lmworks.progress import no_report
from lmworks.train.parallel.task import Answer, Task, trace_of


def work(path: Path) -> int:
    """Carries out the task in this file; the exit status. An error that would come again is left as the answer, and the
    process fails, which ends the others: they may wait for it outside of any collective."""
    task = from_mapping(Task, json.loads(path.read_text("utf-8")))
    first = os.environ["RANK"] == "0"
    try:
        result = task.carry_out(_tell if first else no_report)
        answer = Answer(result)
    except (KeyboardInterrupt, SystemExit) as stopped:
        answer = Answer(told=str(stopped) if isinstance(stopped, KeyboardInterrupt) else "")
    except Exception as error:
        if (found := Answer.of_error(error)) is None:
            # Not told here: where one process was killed, the others fail as well, for no reason of theirs.
            trace_of(task.folder, int(os.environ["RANK"])).write_text(traceback.format_exc(), "utf-8")
        else:
            found.write(task.folder)  # whoever of them met it
        return 1
    if first and Answer.read(task.folder) is None:  # or it was told to end because of the error that stands there
        answer.write(task.folder)
    return 0


def _tell(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
    with suppress(BrokenPipeError):  # of whoever is gone, as the end of the input says, too
        print(json.dumps({"progress": [done, total, unit, kept, note]}), flush=True)


def end_with_input() -> None:
    """A SIGINT to this process when its standard input ends: whoever started it wants it to end, or is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1 << 10):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    if os.environ["RANK"] == "0":  # the others learn of it as of any signal to one of them
        end_with_input()
    os._exit(work(Path(sys.argv[1])))  # the thread that reads the input holds on to it
