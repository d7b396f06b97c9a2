"""The API against its OpenAPI document: generated requests, for a bounded time, to the running stack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines.stack import Stack

# Without negative_data_rejection: HTTP ignores invalid preferences, ranges and conditions, and does not refuse them.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
)


@pytest.mark.slow
def test_generated_requests_get_documented_responses_only(stack: Stack, tmp_path: Path) -> None:
    argv = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{stack.base_url}/openapi.json",
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--max-time", "15",
        # A stream of live events has no end.
        "--exclude-path-regex", "/events$", "--request-timeout", "10", "--generation-deterministic",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(
        argv, cwd=tmp_path, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, timeout=200, check=False
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
