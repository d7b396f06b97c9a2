"""Writes the configuration of compose's S3 server: `python -m deploy.seaweedfs FOLDER`.

It reads S3_BUCKET, the administrator's S3_ADMIN_ACCESS_KEY_ID and S3_ADMIN_SECRET_ACCESS_KEY, and the services'
S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY from the environment. Exit code 1 if one of them is missing.
"""

import os
import sys
from pathlib import Path

from deploy.seaweedfs.configuration import Keys, write

NAMES = ("S3_ADMIN_ACCESS_KEY_ID", "S3_ADMIN_SECRET_ACCESS_KEY", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")


def main() -> None:
    """Write what the environment says."""
    missing = [name for name in (*NAMES, "S3_BUCKET") if not os.environ.get(name)]
    if missing:
        sys.exit(f"{', '.join(missing)} must be set: see .env.example")
    folder = Path(sys.argv[1])
    write(folder, Keys(*(os.environ[name] for name in NAMES)), os.environ["S3_BUCKET"])
    print(f"{folder / 'config'} was written")


if __name__ == "__main__":
    main()
