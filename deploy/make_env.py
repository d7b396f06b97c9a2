"""Writes `.env` for docker compose from `.env.example`, with a random value for each secret that is empty there.

`python3 deploy/make_env.py` needs nothing but Python. It does not change an existing `.env`.
"""

import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECRET = re.compile(r"^(S3_\w*)(ACCESS_KEY_ID|SECRET_ACCESS_KEY)=$", re.MULTILINE)


def filled(example: str) -> str:
    """The example with a value for each empty key and secret."""

    def fill(match: re.Match[str]) -> str:
        # Some S3 servers take keys of up to 20 characters and secrets of up to 40.
        value = secrets.token_hex(8) if match[2] == "ACCESS_KEY_ID" else secrets.token_urlsafe(24)
        return f"{match[0]}{value}"

    return SECRET.sub(fill, example)


def main() -> None:
    """Write the file, readable by its owner only. Exit code 1 if it exists."""
    target = ROOT / ".env"
    text = filled((ROOT / ".env.example").read_text())
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(f"{target} is there already: edit it, or remove it to start afresh.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    print(f"{target} was written. Next: docker compose up --build")


if __name__ == "__main__":
    main()
