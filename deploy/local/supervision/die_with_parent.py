"""Becomes another program, after arranging that this one does not outlive its parent.

Run as a script with `python -I -S die_with_parent.py PARENT_PID PROGRAM ARG...`: it imports the standard library only,
because it starts before every part. A wrapper, and no `preexec_fn`, because running Python between fork and exec in a
process with threads can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process's life to the parent's (Linux only), make its files private, and exec."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the supervisor has ended")
    os.umask(0o077)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
