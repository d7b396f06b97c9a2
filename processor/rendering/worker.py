"""The process that decodes and encodes: reads requests from standard input, writes answers, dies with its parent.

Started by `processor.rendering.pool` as `python -m processor.rendering.worker PARENT_PID`.
"""

import ctypes
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import BinaryIO

from processor.rendering.render import render
from processor.rendering.wire import PREFIX, READY, failed_answer, parse_request, rejected_answer, rendered_answer
from shared.errors import ImageRejected

_NICENESS = 5
"""Below the parent, so that its event loop sends heartbeats in time while all cores encode."""
_OOM_SCORE = 500
"""When memory runs out the kernel takes a worker, which is replaced, and not the processor."""
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve requests until the parent closes the pipe or dies."""
    # The terminal's or supervisor's signals are for the parent, which drains and then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints goes to the log and not between two answers.
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    _die_with(parent=int(sys.argv[1]))
    _step_back()
    answers.write(READY)
    answers.flush()
    _serve(sys.stdin.buffer, answers)


def _die_with(parent: int) -> None:
    # Elsewhere than on Linux the closed pipe ends the process, though not before the image in work is done.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent was gone before the worker was ready")


def _step_back() -> None:
    os.nice(_NICENESS)
    score = Path("/proc/self/oom_score_adj")
    if score.exists() and int(score.read_text()) < _OOM_SCORE:
        score.write_text(str(_OOM_SCORE))


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while prefix := requests.read(PREFIX.size):
        header_size, body_size = PREFIX.unpack(prefix)
        header = requests.read(header_size)
        for part in _answer(header, requests.read(body_size)):
            answers.write(part)
        answers.flush()


def _answer(header: bytes, data: bytes) -> list[bytes]:
    try:
        ladder, limits = parse_request(header)
        return rendered_answer(render(data, ladder, limits))
    except ImageRejected as error:
        return rejected_answer(error)
    except MemoryError:
        # Ends this process: the pool tries once more in a fresh one, whose memory is not fragmented.
        raise
    except Exception:  # The parent raises it in its own process, where it is counted and handled as a surprise.
        return failed_answer(traceback.format_exc())


if __name__ == "__main__":
    main()
