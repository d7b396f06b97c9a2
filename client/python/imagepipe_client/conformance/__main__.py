"""Checks a consumer that is a command, and prints what its table has wrong."""

import argparse
import asyncio
import sys

from imagepipe_client.conformance.kit import ConsumerFailed, check


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 if the table is right, 1 if it is not, or if there is none."""
    parser = argparse.ArgumentParser(prog="python -m imagepipe_client.conformance", description=__doc__)
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each of its two runs")
    parser.add_argument("command", nargs="+", help="the consumer, after --")
    arguments = parser.parse_args(argv)
    try:
        report = asyncio.run(check(arguments.command, arguments.bootstrap_servers, arguments.seconds))
    except (ConsumerFailed, OSError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    for difference in report.differences:
        print(f"✗ {difference}")
    if not report.differences:
        print(f"✓ The table is right: {report.cases} cases, {report.records} records.")
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
