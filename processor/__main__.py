"""Entry point: `python -m processor`."""

import asyncio
import logging
import os
import sys

import structlog

from processor.service import Processor
from shared.errors import ConfigurationError
from shared.freed_memory import return_large_blocks
from shared.observability.logs import configure_logging
from shared.observability.tracing import configure_tracing
from shared.settings import Settings

log = structlog.get_logger()


async def _serve(settings: Settings) -> int:
    return await Processor(settings).run()


def main() -> None:
    """Run the processor; exits with 0 after a signal, 1 when it should be started again, 2 for a wrong setting."""
    settings = Settings()
    return_large_blocks()
    configure_logging(settings, "processor")
    flush_spans = configure_tracing(settings, "processor")
    try:
        code = asyncio.run(_serve(settings))
    except ConfigurationError as error:
        log.error("wrong_configuration", error=str(error))
        code = 2
    flush_spans()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread that hangs in a call to S3 would hold an ordinary exit for as long as the call's time-outs.
    os._exit(code)


if __name__ == "__main__":
    main()
