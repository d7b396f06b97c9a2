"""The sandbox of a render worker: removes all rights that decoding an image does not need (invariant 13).

A decoder is C code that reads hostile bytes. An attacker who takes over a decoder gets no file, no socket, no process
and no memory of another process. The attacker can only write an answer, which the parent checks.

- Landlock (Linux 5.13 or later) denies every access to files and TCP ports, and signals to other processes.
- seccomp allows the few system calls of a process that computes and uses two pipes. Other calls fail with EPERM. Calls
  that only an attacker would make end the process.
- Resource limits allow no new file descriptor, no new process and no core dump, which would contain the image. The
  parent sets the limits of CPU time and memory before each image, because the worker cannot raise them.
"""

import errno
import math
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import IntFlag

import psutil

from processor.rendering.render import RenderLimits

if sys.platform == "linux":
    import landlockpy
    import seccompy

ALLOWED_CALLS = (
    # The two pipes and standard error.
    "read", "write", "readv", "writev", "close", "lseek", "fstat", "poll", "ppoll",
    # Memory.
    "brk", "mmap", "mprotect", "munmap", "mremap", "madvise", "membarrier",
    # Pillow reads the working directory when it saves an image, even to a buffer.
    "getcwd",
    # Locks, time, random numbers, scheduling.
    "futex", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times",
    "getrusage", "getrandom", "sched_yield", "sched_getaffinity", "getcpu", "rseq", "restart_syscall",
    # Signals that the process sends to itself: faulthandler prints the stack of a crash and raises the signal again.
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getpid", "gettid", "tgkill",
    "exit", "exit_group",
)  # fmt: skip
FATAL_CALLS = (
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "bpf",
    "socket", "socketpair", "connect", "io_uring_setup", "mount", "unshare", "setns", "init_module", "kexec_load",
)  # fmt: skip
"""No library makes these calls by accident. The kernel ends the process, and the attempt counts as a crash."""
OPEN_FILES = 4
"""Standard input, output and error, and the duplicate of standard output that carries the answers."""
MEMORY_BASE = 1 << 30
"""Bytes of address space for the interpreter and its libraries (0.2 GB measured), with reserve."""
MEMORY_PER_PIXEL = 68
"""Bytes of address space for each decoded pixel. The most expensive kind of image, with random alpha values, took 42.

A valid image must never reach the limit, because Pillow reports a failed allocation as a corrupt image, and that answer
is permanent. The pixels of an image are counted before it is decoded, so a valid image stays far below the limit.
"""


class Protection(IntFlag):
    """The protections of a worker, one bit for each. A worker reports its bits once, when it is ready."""

    LANDLOCK = 1
    SECCOMP = 2
    RLIMITS = 4


ALL = Protection.LANDLOCK | Protection.SECCOMP | Protection.RLIMITS


def enter() -> Protection:
    """Remove the rights of this process permanently; returns the protections that the kernel has applied.

    Call this function after all libraries are loaded, because the process cannot import anything afterwards.
    """
    if sys.platform != "linux":
        return _limit_resources()
    # seccomp comes last, because it denies the system calls of the other two. Its library is loaded first, because
    # Landlock denies the access to the file.
    filters = seccompy.supported()
    protections = _landlock() | _limit_resources()
    return protections | _seccomp() if filters else protections


def _limit_resources() -> Protection:
    for limit, value in (
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    return Protection.RLIMITS


def _landlock() -> Protection:
    scopes = landlockpy.Scope.ABSTRACT_UNIX_SOCKET | landlockpy.Scope.SIGNAL
    try:
        with landlockpy.Ruleset(scoped=scopes) as ruleset:
            ruleset.restrict()
    except landlockpy.LandlockError:
        return Protection(0)
    return Protection.LANDLOCK


def _seccomp() -> Protection:
    rules = seccompy.Filter(default=seccompy.Action.ERRNO | errno.EPERM)
    _add(rules.allow, ALLOWED_CALLS)
    _add(rules.kill, FATAL_CALLS)
    try:
        rules.load()
    except seccompy.SeccompError:
        return Protection(0)
    return Protection.SECCOMP


def _add(rule: Callable[[str], None], names: tuple[str, ...]) -> None:
    for name in names:
        # Some system calls do not exist on all architectures. For example, ARM has ppoll but not poll.
        with suppress(ValueError):
            rule(name)


def denied(error: BaseException | None) -> bool:
    """Whether the sandbox refused a system call before this error. An attacker may then control the decoder.

    Libraries wrap errors, so this function also checks the causes and contexts of the error.
    """
    while error is not None:
        if isinstance(error, PermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_image(pid: int, seconds: float, limits: RenderLimits) -> None:
    """Limit the CPU time and the address space of a worker for one image. The parent calls it. Linux only.

    `seconds` of CPU time count from now. RLIMIT_CPU counts from the start of the process, so the time used so far is
    added.
    """
    if sys.platform != "linux":
        return
    used = psutil.Process(pid).cpu_times()
    _soft_limit(pid, resource.RLIMIT_CPU, math.ceil(used.user + used.system + seconds) + 1)
    pixels = max(limits.max_pixels, limits.max_animation_pixels)
    _soft_limit(pid, resource.RLIMIT_AS, MEMORY_BASE + MEMORY_PER_PIXEL * pixels)


def _soft_limit(pid: int, limit: int, value: int) -> None:
    # The hard limit is not lowered, because a parent that is not root could not raise it again for the next image.
    _, hard = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
