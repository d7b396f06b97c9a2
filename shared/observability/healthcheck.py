"""Readiness probe of a container: `python -m shared.observability.healthcheck PORT`."""

import http.client
import sys

TIMEOUT_SECONDS = 7
"""A readiness check answers within five seconds, whatever hangs."""


def main() -> None:
    """Exit with 0 if the internal server on this port of the loopback interface is ready, else say why not."""
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
