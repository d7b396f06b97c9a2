"""Fuzz all harnesses side by side: `python -m tests.fuzz.campaign SECONDS`. What is found is kept in `.fuzz/`."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.fuzz import HARNESSES

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that reach code which the seeds do not reach, and inputs that a harness has failed on."""
FOUND = Path(__file__).parents[2] / ".fuzz"
MAX_INPUT_BYTES = 4096
INPUT_SECONDS = 60
"""An input that takes longer is a failure. At a load of 30 one took 12 s, because other processes come first."""
MAX_MEMORY_MB = 1024
"""A process of more memory is a failure. After an hour the largest had 120 MB."""
SPARE_SECONDS = 600
"""How much longer than its time a process may take. At a load of 38 on two cores its start alone took a minute."""
PYTHON_ERROR = re.compile(r"=== Uncaught Python exception: ===\n(.*?)\n\n==", re.DOTALL)
EXECUTIONS = re.compile(r"number_of_executed_units: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """Result of one harness. `failure` is None, or the error and the file with the input that causes it."""

    harness: str
    executions: int
    failure: str | None


def fuzz(seconds: int, directory: Path, harnesses: Sequence[str] = HARNESSES) -> Iterator[Outcome]:
    """Fuzz each harness for so many seconds, all at the same time. New inputs are kept in the directory."""
    running = [(harness, _start(harness, seconds, directory / harness)) for harness in harnesses]
    try:
        for harness, process in running:
            output, _ = process.communicate(timeout=seconds + SPARE_SECONDS)
            yield _outcome(harness, process.returncode, output)
    finally:
        for _, process in running:
            process.kill()
            process.wait()


def write_seeds(harness: str, directory: Path) -> None:
    """Write the first inputs of a harness, one file each."""
    directory.mkdir(parents=True, exist_ok=True)
    for seed in importlib.import_module(f"tests.fuzz.{harness}").seeds():
        (directory / sha256(seed).hexdigest()[:16]).write_bytes(seed)


def _start(harness: str, seconds: int, directory: Path) -> "subprocess.Popen[str]":
    inputs, failures = directory / "inputs", directory / "failures"
    failures.mkdir(parents=True, exist_ok=True)
    write_seeds(harness, inputs)
    corpus = [str(folder)] if (folder := CORPUS / harness).exists() else []
    return subprocess.Popen(
        [
            sys.executable, "-m", "tests.fuzz", harness, f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}",
            f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MAX_MEMORY_MB}", f"-artifact_prefix={failures}/",
            "-print_final_stats=1", str(inputs), *corpus,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=CORPUS.parents[2],
    )  # fmt: skip


def _outcome(harness: str, exit_code: int, output: str) -> Outcome:
    executions = int(found[1]) if (found := EXECUTIONS.search(output)) else 0
    if exit_code == 0:
        return Outcome(harness, executions, None)
    error = found[1] if (found := PYTHON_ERROR.search(output)) else output[-2000:]
    written = re.search(r"Test unit written to (\S+)", output)
    return Outcome(harness, executions, f"{error}\n{written[1] if written else 'no input was written'}")


def main() -> None:
    """Print the outcome of each harness. The exit code is 1 if one of them has failed."""
    failed = False
    for outcome in fuzz(int(sys.argv[1]), FOUND):
        print(f"{outcome.harness}: {outcome.executions:,} executions, {outcome.failure or 'no failure'}", flush=True)
        failed = failed or outcome.failure is not None
    sys.exit(failed)


if __name__ == "__main__":
    main()
