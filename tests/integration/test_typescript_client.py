"""The TypeScript client: types from the gateway's own OpenAPI document, the compiler, and its test on the gateway."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.engines.stack import Stack

CLIENT = Path(__file__).parents[2] / "client"


@pytest.mark.slow
def test_the_client_has_the_types_of_the_gateway_and_works(stack: Stack) -> None:
    if not (shutil.which("npm") and (CLIENT / "node_modules").exists()):
        pytest.skip("Node or its packages are not installed: `npm ci --prefix client`")
    environment = os.environ | {"GATEWAY": stack.base_url}
    for script in ("generate", "check", "test"):
        done = subprocess.run(
            ["npm", "run", script],
            cwd=CLIENT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 1" in done.stdout
