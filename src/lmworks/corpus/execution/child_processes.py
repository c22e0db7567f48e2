"""Processes that this one starts: they leave Ctrl-C to it, and none outlives it, however it ends."""

import os
import signal
import sys
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from threading import Lock, Thread
from types import ModuleType

_STARTING = Lock()


def start_child(process: BaseProcess) -> None:
    """Start a process in which SIGINT is blocked from its first moment: a terminal sends that to all, and this process
    ends the others. It imports what it is given, not the script of its parent, which `multiprocessing` would run in it
    once more."""
    ensure_running()  # of a process of `multiprocessing` itself, which would undo the next line when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _STARTING:
            main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
            try:
                process.start()
            finally:
                sys.modules["__main__"] = main
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """For a process that was started: from now on it ends as soon as the one that started it is gone, even killed.

    A thread waits for that. Work in C that keeps Python's lock for long has to come back first.
    """
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)  # whatever other threads do; what is half done has a name that nobody reads

    Thread(target=wait, name="end with parent", daemon=True).start()


def how_it_ended(process: BaseProcess) -> str:
    """The signal, or the status, with which a process has ended."""
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"status {code}"
