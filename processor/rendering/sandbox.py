"""Takes every right from a render worker that decoding an image does not need (invariant 13).

A decoder reads hostile bytes in C. The sandbox decides what an attacker gains who takes over a decoder: no file, no
socket, no process, no memory of another process; only an answer, which the parent checks.

- Landlock (Linux 5.13 or later) denies every access to files and TCP ports, and signals to other processes.
- seccomp allows the few system calls of a process that computes and talks over two pipes. Every other call fails with
  EPERM, and the calls that only an attacker would make end the process.
- Resource limits allow no new file descriptor, no new process and no core dump, which would hold the image. The parent
  sets the limits of CPU time and memory before each image, because the worker may not raise them.
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
    # Pillow asks for the working directory when it saves, to a buffer too.
    "getcwd",
    # Locks, time, random numbers, scheduling.
    "futex", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times",
    "getrusage", "getrandom", "sched_yield", "sched_getaffinity", "getcpu", "rseq", "restart_syscall",
    # Signals to itself: faulthandler prints the stack of a crash and raises the signal again.
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getpid", "gettid", "tgkill",
    "exit", "exit_group",
)  # fmt: skip
FATAL_CALLS = (
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "bpf",
    "socket", "socketpair", "connect", "io_uring_setup", "mount", "unshare", "setns", "init_module", "kexec_load",
)  # fmt: skip
"""No library calls these by accident, so the process ends at once and the image counts as one that crashes decoders."""
OPEN_FILES = 4
"""Standard input, output and error, and the duplicate of standard output that carries the answers."""
MEMORY_BASE = 1 << 30
"""Bytes of address space for the interpreter and its libraries (0.2 GB measured), with reserve."""
MEMORY_PER_PIXEL = 68
"""Bytes of address space per decoded pixel: twice the 34 that the most expensive kind of image was measured to take.

A limit that a sound image could reach would be wrong: Pillow reports a failed allocation as a broken image, and that
answer is permanent. The pixels of an image are counted before it is decoded, so no sound image comes near the limit.
"""


class Protection(IntFlag):
    """What keeps a worker in: one bit each. A worker reports its bits once, when it is ready."""

    LANDLOCK = 1
    SECCOMP = 2
    RLIMITS = 4


ALL = Protection.LANDLOCK | Protection.SECCOMP | Protection.RLIMITS


def enter() -> Protection:
    """Give up this process's rights for good; returns which protections the kernel took on.

    Call it when all libraries are loaded: nothing can be imported afterwards.
    """
    if sys.platform != "linux":
        return _limit_resources()
    # seccomp comes last, because it denies the system calls of the other two. It loads its library first, because
    # Landlock denies that.
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
        # Not every system call exists on each architecture: ARM has ppoll and no poll, for example.
        with suppress(ValueError):
            rule(name)


def denied(error: BaseException | None) -> bool:
    """Whether the sandbox refused something on the way to this error: a decoder that is not itself any more.

    Libraries wrap errors, so the causes and contexts count too.
    """
    while error is not None:
        if isinstance(error, PermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_image(pid: int, seconds: float, limits: RenderLimits) -> None:
    """Bound the worker's CPU time and address space for one image. Called by the parent; does nothing off Linux.

    `seconds` of CPU time count from now: RLIMIT_CPU counts over the life of a process, so what it has used is added.
    """
    if sys.platform != "linux":
        return
    used = psutil.Process(pid).cpu_times()
    _soft_limit(pid, resource.RLIMIT_CPU, math.ceil(used.user + used.system + seconds) + 1)
    pixels = max(limits.max_pixels, limits.max_animation_pixels)
    _soft_limit(pid, resource.RLIMIT_AS, MEMORY_BASE + MEMORY_PER_PIXEL * pixels)


def _soft_limit(pid: int, limit: int, value: int) -> None:
    # The hard limit stays: a parent that is not root could not raise it again for the next image.
    _, hard = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
