"""The render process: reads requests from standard input, writes answers to standard output, ends with its parent.

`processor.rendering.pool` starts it as `python -m processor.rendering.worker PARENT_PID`. It loads its libraries,
enters the sandbox, reports that it is ready, and then renders one image after the other.
"""

import ctypes
import os
import signal
import sys
import traceback
import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageCms

from processor.rendering import sandbox
from processor.rendering.render import RenderLimits, render
from processor.rendering.wire import (
    PREFIX,
    failed_answer,
    parse_request,
    ready,
    rejected_answer,
    rendered_answer,
    request_header,
)
from shared.contract.ladder import Ladder
from shared.errors import ImageRejected

_NICENESS = 5
"""Priority below that of the parent. The parent's event loop then sends heartbeats in time while all cores encode."""
_OOM_SCORE = 500
"""If the machine has no more memory, the kernel ends a worker, which the pool replaces, and not the processor."""
_PR_SET_PDEATHSIG = 1
_WARM_UP_LIMITS = RenderLimits(max_pixels=1024, max_side=32, max_frames=2, max_animation_pixels=2048)


def main() -> None:
    """Serve requests until the parent closes the pipe or ends."""
    # Signals from the terminal or the supervisor are for the parent. It drains and then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # If a library prints text, it must go to standard error, and not between two answers.
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    _die_with(parent=int(sys.argv[1]))
    _lower_priority()
    _warm_up()
    answers.write(ready(sandbox.enter()))
    answers.flush()
    _serve(sys.stdin.buffer, answers)


def _die_with(parent: int) -> None:
    # On systems other than Linux the closed pipe ends the process, after the image that it renders.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent ended before the worker was ready")


def _lower_priority() -> None:
    os.nice(_NICENESS)
    score = Path("/proc/self/oom_score_adj")
    if score.exists() and int(score.read_text()) < _OOM_SCORE:
        score.write_text(str(_OOM_SCORE))


def _warm_up() -> None:
    """Render a small image of each format: Pillow imports its plugins at the first use, which the sandbox denies."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Each format that a ladder can name is written.
    ladder = Ladder(method=0, avif_quality=50, share_quality=50)
    still, frame = Image.new("RGB", (16, 16), "red"), Image.new("RGBA", (16, 16))
    for image_format, options in (
        ("JPEG", {"icc_profile": profile}),
        ("PNG", {"icc_profile": profile}),
        ("WEBP", {}),
        ("WEBP", {"save_all": True, "append_images": [frame]}),
    ):
        file = BytesIO()
        still.save(file, image_format, **options)
        request = request_header(ladder, _WARM_UP_LIMITS, file.tell())[PREFIX.size :]
        _answer(request, file.getvalue())
    # An invalid request formats a stack trace, which also imports modules.
    _answer(b"", b"")


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while prefix := requests.read(PREFIX.size):
        header_size, body_size = PREFIX.unpack(prefix)
        header = requests.read(header_size)
        for part in _answer(header, requests.read(body_size)):
            answers.write(part)
        answers.flush()


def _answer(header: bytes, data: bytes) -> list[bytes]:
    try:
        return rendered_answer(render(data, *parse_request(header)))
    except MemoryError:
        # The error ends this process. The pool tries again in a new process, whose memory is not fragmented.
        raise
    except ImageRejected as error:
        _exit_if_denied(error)
        return rejected_answer(error)
    except Exception as error:  # The parent raises it again as RuntimeError, and counts and handles it there.
        _exit_if_denied(error)
        return failed_answer(traceback.format_exc())


def _exit_if_denied(error: Exception) -> None:
    """End the process if the sandbox refused a system call, because the decoder's answer cannot be trusted then."""
    if sandbox.denied(error):
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
