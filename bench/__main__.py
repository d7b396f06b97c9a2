"""The command of the benchmarks: `python -m bench suite` (short: `make bench`) and `python -m bench peers`."""

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import peers
from bench.deployment import engines
from bench.figures import Figure, Rounds
from bench.load import require_wrk
from bench.machine import Watch
from bench.photos import photos
from bench.plots import draw
from bench.report import LATEST, Report, load, print_table, save
from bench.stack import run
from bench.suites import gateway, growth, index, pipeline
from ops.terminal.output import result_console
from shared.errors import ConfigurationError
from tests.support.engines.stack import Stack

app = typer.Typer(add_completion=False, no_args_is_help=True)

Measure = Callable[[Stack, Rounds], Coroutine[Any, Any, None]]
RoundCount = Annotated[int, typer.Option("--rounds", min=1, help="Rounds; a result has at least three.")]


class Suite(StrEnum):
    """A part of the suite."""

    GATEWAY = "gateway"
    PIPELINE = "pipeline"
    INDEX = "index"
    GROWTH = "growth"


@app.command()
def suite(
    only: Annotated[Suite | None, typer.Option("--suite", help="Only this part. [default: all]")] = None,
    photo_directory: Annotated[
        Path | None,
        typer.Option("--photos", exists=True, file_okay=False, help="Photos for the pipeline, not generated ones."),
    ] = None,
    rounds: RoundCount = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each run of requests.")] = 3.0,
) -> None:
    """Measure every figure with its floor in the same run, and compare it with its aim.

    Starts engines of its own and removes them at the end. Nothing else should run on the machine.
    """
    require_wrk()
    pictures = photos(photo_directory)
    measures: dict[Suite, Measure] = {
        Suite.GATEWAY: gateway.measure,
        Suite.PIPELINE: lambda stack, plan: pipeline.measure(stack, plan, pictures),
        Suite.INDEX: index.measure,
        Suite.GROWTH: growth.measure,
    }
    console = Console(highlight=False)
    reports = []
    with engines() as stack:
        for name in [only] if only else list(Suite):
            reports.append(measured(name, measures[name], stack, rounds, seconds, console))
            # After each part, so that an error in a later one does not cost the figures of this one.
            save(reports[-1])
    print_table(reports, result_console())
    for file in (LATEST, *draw(load())):
        console.print(f"Written: {file}")


@app.command("peers")
def compare(
    photo_directory: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Directory with photos.")],
    imgproxy: Annotated[str | None, typer.Option(help="URL of a running imgproxy that accepts unsigned URLs.")] = None,
    imgproxy_source: Annotated[
        str | None,
        typer.Option(
            help="URL of the photos as imgproxy reaches them: local:// for IMGPROXY_LOCAL_FILESYSTEM_ROOT. "
            "[default: a file server on this machine; imgproxy needs IMGPROXY_ALLOW_LOOPBACK_SOURCE_ADDRESSES=true]"
        ),
    ] = None,
    thumbor: Annotated[bool, typer.Option("--thumbor", help="Start thumbor from PyPI.")] = False,
    rounds: RoundCount = 3,
) -> None:
    """Compare photos per second, from the original to all variants, with imgproxy and thumbor."""
    if not (imgproxy or thumbor):
        raise ConfigurationError("name a peer: --imgproxy URL, --thumbor, or both")
    console = Console(highlight=False)

    async def measure(stack: Stack, plan: Rounds) -> None:
        await peers.measure(stack, plan, photo_directory, imgproxy, imgproxy_source, thumbor)

    with engines() as stack:
        report = measured("peers", measure, stack, rounds, 0, console)
    print_table([report], result_console())


def measured(name: str, measure: Measure, stack: Stack, rounds: int, seconds: float, console: Console) -> Report:
    """The report of one suite. Each figure is printed as soon as it is known, because a suite takes minutes."""
    figures: list[Figure] = []

    def add(figure: Figure) -> None:
        figures.append(figure)
        console.print(f"{figure.name}: {figure.value:,.4g} {figure.unit}, {figure.ratio:.2f} of {figure.floor_name}")

    console.rule(name)
    watch = Watch()
    asyncio.run(measure(stack, Rounds(rounds, seconds, add)))
    return Report(name, rounds, watch.conditions(), figures)


if __name__ == "__main__":
    run(app)
