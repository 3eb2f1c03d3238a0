"""Work in a child process, so that a crash, a hang or too much memory costs that work only."""

import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MEMORY_MAP = Path("/proc/self/statm")


type Work = Callable[[Callable[[Any], None]], None]


def in_child(work: Work, *, seconds: float, memory_bytes: int) -> Iterator[Any]:
    """Run `work(send)` in a fork of this process, and yield what it sends until it ends, with or without success.

    It may use `memory_bytes` more than this process has, and `seconds`. A pipe is used because Lambda has no /dev/shm,
    which pools and queues of multiprocessing need. `work` must not use the network: the fork has no threads of obstore.
    """
    from multiprocessing import Pipe  # imported here, because most invocations need no child

    receiving, sending = Pipe(duplex=False)
    ends = time.monotonic() + seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads, which are idle here
        child = os.fork()
    if child == 0:
        _end_with(work, sending, memory_bytes)
    sending.close()
    try:
        while receiving.poll(max(0.0, ends - time.monotonic())):
            yield receiving.recv()
    except (EOFError, OSError):  # its end, perhaps in mid-word
        return
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        receiving.close()


def _end_with(work: Work, sending: "Connection[Any, Any]", memory_bytes: int) -> None:
    try:
        if MEMORY_MAP.exists():
            mapped = int(MEMORY_MAP.read_text().split()[0]) * resource.getpagesize()
            limit = mapped + memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        work(sending.send)
    finally:
        os._exit(0)  # exit handlers belong to the parent
