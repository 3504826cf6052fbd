"""`tidegate bench`: measures us and our peers in the same run, on a Kafka and a Postgres of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.catalogue import BENCHES, Bench, Order
from bench.ingest.peers import Peer, parse_peer
from bench.killpath.run import RATES
from bench.processes import BenchError
from bench.progress import Bars
from bench.results import Figure, Findings, write_json
from deploy.local.artifacts import ArtifactError
from deploy.local.children import ProgramError
from deploy.local.settings import default_cache
from deploy.local.stack import StackError, fetch
from shared.clock import system_clock
from tidegate.console import ConsoleReporter

_RATES = ", ".join(str(rate) for rate in RATES)
_WORKLOADS = "; ".join(f"{one.name}: {', '.join(one.workloads)}" for one in BENCHES.values() if one.workloads)


def register(app: typer.Typer) -> None:
    app.command()(bench)


def bench(
    name: Annotated[str | None, typer.Argument(help="Which benchmark; all of them if not given.")] = None,
    events: Annotated[
        int, typer.Option(help="aggregator: size of the backlog.", min=1_000, max=100_000_000)
    ] = 1_000_000,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            "--workload",
            help=f"May be given several times; {_WORKLOADS}.",
        ),
    ] = None,
    trips: Annotated[int, typer.Option(help="killpath: trips of the breaker at each load.", min=1, max=10_000)] = 100,
    rate: Annotated[
        list[int] | None,
        typer.Option(
            "--rate",
            help=f"killpath: events/s in the background; may be given several times. [default: {_RATES}]",
            min=0,
            max=1_000_000,
        ),
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Only this system; may be given several times.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="NAME=URL|COMMAND",
            help="ingest: a system that runs already, or the command that starts one, with {kafka}, {topic}, {port} "
            "and {config} filled in; bench/README.md says how. May be given several times.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn by chance.", min=0)] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.", dir_okay=False)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the benchmarks and their systems, and end.")] = False,
) -> None:
    """Measure how fast Tidegate is, where others do the same work also how fast they are, in one run on this machine.

    Starts a Kafka and a PostgreSQL of its own and removes everything at the end; a stack that runs is not touched,
    but shares the processor. Our totals are compared with the truth, and the exit code is 1 if they differ.

    **Examples**

    - `tidegate bench aggregator`
    - `tidegate bench aggregator --json out.json`
    - `tidegate bench aggregator --events 50000 --system tidegate --system floor`
    - `tidegate bench aggregator --workload W2 --workload W3`
    - `tidegate bench aggregator --events 20000000 --system tidegate`
    - `tidegate bench ingest`
    - `tidegate bench ingest --workload single --workload batch100 --peer 'bento=bento -c {config}'`
    - `tidegate bench killpath`
    - `tidegate bench killpath --trips 20 --rate 0 --rate 1000`
    - `tidegate bench --list`
    """
    console = Console()
    if list_:
        for known in BENCHES.values():
            console.print(f"[bold]{known.name}[/]: {known.summary}", highlight=False, soft_wrap=True)
            console.print(f"  systems: {', '.join(known.systems)}", highlight=False, soft_wrap=True)
        return
    if name is not None and name not in BENCHES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(BENCHES)}", param_hint="NAME")
    peers = _peers(peer)
    chosen = [BENCHES[name]] if name else list(BENCHES.values())
    _check_workloads(chosen, workload)
    figures: list[Figure] = []
    try:
        for one in chosen:
            order = Order(
                _systems(one, system),
                workloads=[one_of for one_of in one.workloads if one_of in (workload or ())] or one.usual,
                events=events,
                trips=trips,
                rates=rate or RATES,
                seed=seed,
                peers=peers,
            )
            found = _run(one, order, console)
            console.print(found.table(f"{one.name}: {one.summary}"))
            figures += found.figures()
        if json_file is not None:
            write_json(json_file, figures)
    except (ArtifactError, BenchError, OSError, ProgramError, StackError) as error:
        console.print(f"tidegate bench failed: {error}", style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


def _systems(one: Bench, wanted: list[str] | None) -> list[str]:
    """In the benchmark's own order. Raises typer.BadParameter."""
    for name in wanted or ():
        if name not in one.systems:
            raise typer.BadParameter(
                f"{one.name} knows {', '.join(one.systems)}, not {name!r}", param_hint="--system"
            )
    return [name for name in one.systems if not wanted or name in wanted]


def _peers(given: list[str] | None) -> list[Peer]:
    """Raises typer.BadParameter."""
    try:
        peers = [parse_peer(text) for text in given or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--peer") from error
    names = [peer.name for peer in peers]
    for name in names:
        if names.count(name) > 1 or any(name in one.systems for one in BENCHES.values()):
            raise typer.BadParameter(f"there are two systems named {name!r}", param_hint="--peer")
    return peers


def _check_workloads(chosen: list[Bench], wanted: list[str] | None) -> None:
    """A benchmark that has none of the wanted ones runs its usual ones. Raises typer.BadParameter."""
    known = [name for one in chosen for name in one.workloads]
    for name in wanted or ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known) or '(none)'}", param_hint="--workload")


def _run(one: Bench, order: Order, console: Console) -> Findings:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it complains while the broker is coming up
    with tempfile.TemporaryDirectory(prefix="tidegate-cache-") as fallback:
        cache = default_cache(os.environ, Path(fallback))
        with ConsoleReporter(console) as reporter:
            fetch(cache, reporter)

        async def run() -> Findings:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None

            def end() -> None:
                loop.add_signal_handler(signal.SIGTERM, lambda: None)  # a second one must not spoil the clean end
                task.cancel()

            loop.add_signal_handler(signal.SIGTERM, end)
            return await one.run(order, cache=cache, clock=system_clock, bars=Bars(console))

        return asyncio.run(run())
