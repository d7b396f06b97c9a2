"""An S3 server of a test's own: the one of the local stack, without the rest of the stack."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from deploy.local import ports
from deploy.local.engines import s3
from deploy.local.state import Root, State
from deploy.local.supervision.process import TIED_TO
from shared.s3.bucket import apply_bucket
from shared.settings import Settings
from tests.support.isolation import in_own_loop
from tests.support.waiting import wait_for

BUCKET = "pictures"


@dataclass(frozen=True)
class Server:
    """A running server with the bucket. `admin` are the root's settings, `services` those of the services."""

    root: Root
    state: State
    program: Path
    pid: int
    admin: Settings
    services: Settings

    def shell(self, line: str) -> str:
        """What the server's shell prints for a line."""
        return s3.run_shell(self.root, self.state, self.program, line)


@contextmanager
def running_server(directory: Path) -> Iterator[Server]:
    """A server with its data under `directory`, ended at the end. It syncs each put."""
    root, state, program = Root(directory), State(ports=ports.assign(s3.PORTS, {})), s3.find_program()
    root.create()
    part = s3.part(root, state, BUCKET, program, os.environ)
    part.prepare()
    argv = [*TIED_TO, str(os.getpid()), *part.argv]
    with (root.logs / "s3.log").open("wb") as log:
        process = subprocess.Popen(argv, env=dict(part.env), stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: _answers(state), 60, "the S3 server to be ready")
        s3.sync_each_put(root, state, program)
        services = Settings(
            _env_file=None,
            s3_bucket=BUCKET,
            **{name.lower(): value for name, value in s3.settings(state).items()},  # type: ignore[arg-type]
        )
        keys = state.secrets
        secret = SecretStr(keys.s3_root_secret)
        admin = services.model_copy(update={"s3_access_key_id": keys.s3_root_key, "s3_secret_access_key": secret})
        apply_bucket(admin)
        yield Server(root, state, program, process.pid, admin, services)
    finally:
        process.kill()
        process.wait(20)


def _answers(state: State) -> bool | None:
    try:
        in_own_loop(lambda: s3.probe(state))
    except Exception:
        return None
    return True
