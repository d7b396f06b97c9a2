"""Readiness probe of a container: `python -m shared.observability.healthcheck PORT`."""

import http.client
import sys

TIMEOUT_SECONDS = 7
"""Above the time-out of a readiness check (CHECK_TIMEOUT_SECONDS of `health`, 5 s)."""


def main() -> None:
    """Probe the internal server on this port of 127.0.0.1. Exit with 0 if it is ready; otherwise print why, exit 1."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except OSError as error:
        sys.exit(f"no answer: {error!r}")
    finally:
        connection.close()
    print(text)
    if answer.status != http.HTTPStatus.OK:
        sys.exit(1)


if __name__ == "__main__":
    main()
