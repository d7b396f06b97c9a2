"""Starts and ends the process of a service: settings, logs, traces, signals and exit codes."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import structlog

from shared.errors import ConfigurationError, ImagepipeError
from shared.observability.logs import configure_logging
from shared.observability.metrics import Service
from shared.observability.tracing import configure_tracing
from shared.settings import Settings, read_settings

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    # It takes less CPU time than the event loop of asyncio.
    from uvloop import new_event_loop

log = structlog.get_logger()

STOPPED = 0
START_AGAIN = 1
CHANGE_A_SETTING = 2

Serve = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]
"""Function that serves until the event is set. It raises an error if the service fails before that."""


def run_service(service: Service, serve: Serve) -> NoReturn:
    """Run a service, and end its process with one of these exit codes.

    - 0: the service stopped after SIGTERM or SIGINT.
    - 1: the service failed, and a restart may help: an engine is unavailable, or too many records went to the DLQ.
    - 2: a setting, a topic, a table or the bucket is missing or wrong. A restart does not help before that is changed.
    """
    code = _exit_code(service, serve)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # An ordinary exit waits for all threads, and a thread may hang in a call to an engine until the call's time-out.
    os._exit(code)


def _exit_code(service: Service, serve: Serve) -> int:
    try:
        settings = read_settings()
    except ConfigurationError as error:
        # Log format and log level are settings too. They have their defaults here, because the settings are invalid.
        configure_logging(Settings.model_construct(), service)
        return _failed(error)
    configure_logging(settings, service)
    flush_spans = configure_tracing(settings, service)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve_until_signal(serve, settings))
    except (Exception, asyncio.CancelledError) as error:
        return _failed(error)
    finally:
        flush_spans()
    log.info("service_stopped")
    return STOPPED


async def _serve_until_signal(serve: Serve, settings: Settings) -> None:
    stop = asyncio.Event()

    def stop_at(received: signal.Signals) -> None:
        log.info("service_stopping", reason=received.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop_at, number)
    await serve(settings, stop)


def _failed(error: BaseException) -> int:
    """Log why the service failed, with a stack if the error is unexpected; returns the exit code."""
    code = CHANGE_A_SETTING if isinstance(error, ConfigurationError) else START_AGAIN
    expected = isinstance(error, ImagepipeError | OSError)
    message = str(error) if code == CHANGE_A_SETTING else f"{type(error).__name__}: {error}"
    log.error("service_failed", error=message, exit_code=code, exc_info=None if expected else error)
    return code
