"""Entry point of `imagepipe`: Ctrl-C ends it with a sentence, also while the command is imported."""

import signal
import sys

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a command that Ctrl-C has ended; typer prints nothing with it."""


def main() -> None:
    """Run the command."""
    try:
        from ops import cli

        cli.main()
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _interrupted()
        raise


def _interrupted() -> None:
    print("✗ Interrupted.", file=sys.stderr)
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
