"""`python -m lmworks.train.parallel.worker TASK`, by torchrun: one of the processes of a training stage.

See `launching.py`. Nothing here is for a user to call.
"""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from lmworks.config import from_mapping
from lmworks.progress import no_report
from lmworks.train.parallel.task import ANSWER, Answer, Task


def work(path: Path) -> None:
    """Carries out the task in this file. Where starting again would change nothing it leaves an answer and ends well;
    if others die of that, all are started once more, find the answer, and end."""
    task = from_mapping(Task, json.loads(path.read_text("utf-8")))
    first = os.environ["RANK"] == "0"
    if (task.folder / ANSWER).exists():
        return
    try:
        result = task.carry_out(_tell if first else no_report)
        answer = Answer(result)
    except (KeyboardInterrupt, SystemExit) as stopped:
        answer = Answer(told=str(stopped) if isinstance(stopped, KeyboardInterrupt) else "")
    except Exception as error:
        if (found := Answer.of_error(error)) is None:
            raise
        answer = found
        answer.write(task.folder)  # whoever of them met it
    if first:
        answer.write(task.folder)


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
    work(Path(sys.argv[1]))
    os._exit(0)  # the thread that reads the input holds on to it
