"""Tables for people: a run while it goes on, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.imports.domain.comparison import JOURNEY_WORDS, Comparison, Line, VariantCounted
from examples.imports.domain.inbox import Received
from examples.imports.domain.ledger import VariantTruth
from examples.imports.progress import Progress
from shared.clock import to_datetime
from shared.statistics.proportion import wilson_interval

_WAYS = tuple(f"journeys, {JOURNEY_WORDS[f]}" for f in ("abandoned_after_navigation", "abandoned_timeout"))
SHORTENED = Text(
    "Shortened for this demo: an import counts as abandoned after 5 s (shipped: 1800 s), "
    "the breaker tries again after 5000 ms (shipped: 60000 ms).",
    style="dim",
)
_BREAKER_LINES = ("breaker: ", "messages on ")
_STATE_STYLES = {"closed": "green", "half_open": "yellow"}
_MARKS = {True: Text("✓", style="bold green"), False: Text("✗", style="bold red")}


def live_view(progress: Progress) -> RenderableType:
    """What a terminal shows while a run goes on."""
    heading = Text.assemble(
        ("Import processing mode", "bold"), "  ", (progress.experiment_key, "dim"), "  ", progress.phase.value
    )
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(progress.users or 1, progress.done, width=40), f"{progress.done:,}/{progress.users:,} users"
    )
    return Group(
        heading,
        bar,
        _counters(progress),
        _variants_so_far(progress),
        _breaker_so_far(progress),
        SHORTENED,
        *messages_view(progress.last_messages),
    )


def status_line(progress: Progress) -> str:
    """The same in one line, for logs."""
    by_variant = ", ".join(
        f"{name} {counted.units:,} units {counted.completed:,} completed"
        for name, counted in progress.variants.items()
    )
    return (
        f"{progress.phase.value}: users {progress.active:,} active {progress.done:,}/{progress.users:,} done; "
        f"events {progress.accepted:,} accepted ({progress.rate():,.0f}/s), {progress.counted:,} counted, "
        f"lag {progress.lag:,}; {by_variant or 'no results yet'}; breaker {progress.breaker.state} "
        f"({progress.breaker.openings} ×), flag {progress.flag.value}, {progress.diverted:,} users diverted; "
        f"messages {', '.join(f'{name} {count}' for name, count in progress.messages.items()) or 'none'}"
    )


def _counters(progress: Progress) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    cells = {
        "active users": f"{progress.active:,}",
        "imports running": f"{progress.importing:,}",
        "events accepted": f"{progress.accepted:,}",
        "events/s": f"{progress.rate():,.0f}",
        "counted": f"{progress.counted:,}",
        "late": f"{progress.late:,}",
        "lag": f"{progress.lag:,}",
        "malformed": f"{progress.malformed:,}",
    }
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def _variants_so_far(progress: Progress) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("variant", "given", "units counted", "completed", "abandoned", "in progress", "mean duration"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for name, given in progress.given.items():
        counted = progress.variants.get(name, VariantCounted(0, 0, None))
        counts = (given, counted.units, counted.completed, counted.abandoned, counted.journeys.in_progress)
        table.add_row(name, *(f"{count:,}" for count in counts), _duration(counted.mean_duration))
    return table


def _breaker_so_far(progress: Progress) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    cells = {
        "imports": Text("fail", "bold red") if progress.failing else Text("work", "green"),
        "breaker": Text(progress.breaker.state, _STATE_STYLES.get(progress.breaker.state, "bold red")),
        "openings": Text(f"{progress.breaker.openings}"),
        "flag": Text(progress.flag.value),
        "users diverted": Text(f"{progress.diverted:,}"),
        **{f"→ {channel}": Text(f"{count}") for channel, count in progress.messages.items()},
    }
    for name in cells:
        table.add_column(name)
    table.add_row(*cells.values())
    return table


def messages_view(last_messages: Mapping[str, Sequence[Received]]) -> list[RenderableType]:
    """The newest messages on each channel, one a line."""
    return [
        Text.assemble(
            (f"{name:<10}", "bold"),
            (f"{to_datetime(message.at):%H:%M:%S} ", "dim"),
            (f"{message.action:<8}", "green" if message.action == "resolve" else "red"),
            " ",
            f"{message.severity}: {message.title}" if message.title else message.thread,
            no_wrap=True,
            overflow="ellipsis",
        )
        for name, messages in last_messages.items()
        for message in messages
    ]


def result_view(comparison: Comparison) -> RenderableType:
    """The variants, the events, the breaker, and the truth beside each figure."""
    return Group(
        _variant_table(comparison),
        Text(),
        _event_table(comparison),
        Text(),
        _breaker_table(comparison),
        SHORTENED,
    )


def _variant_table(comparison: Comparison) -> Table:
    table = Table(title="Abandonment by variant", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("variant")
    for name in ("units", "completed", "abandoned", "left/timeout", "rate", "95 % (Wilson)", "mean duration"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, counted in comparison.platform.variants.items():
        truth = comparison.truth.variants[name]
        table.add_row(name, *_figures(counted), _duration(counted.mean_duration))
        table.add_row("  truth", *_figures(truth), _duration(truth.mean_duration))
        marks = _marks(comparison.lines, name)
        counts = [marks[line] for line in ("units", "completed", "abandoned")]
        ways = Text.assemble(*(marks[line] for line in _WAYS))
        table.add_row("", *counts, ways, "", "", marks["mean duration"], end_section=True)
    return table


def _marks(lines: tuple[Line, ...], variant: str) -> Mapping[str, Text]:
    prefix = f"{variant}: "
    return {line.what.removeprefix(prefix): _MARKS[line.agrees] for line in lines if line.what.startswith(prefix)}


def _figures(variant: VariantCounted | VariantTruth) -> tuple[str, ...]:
    units, abandoned, journeys = variant.units, variant.abandoned, variant.journeys
    ways = f"{journeys.abandoned_after_navigation:,}/{journeys.abandoned_timeout:,}"
    cells = (f"{units:,}", f"{variant.completed:,}", f"{abandoned:,}", ways)
    if not 0 <= abandoned <= units or units == 0:
        return (*cells, "–", "–")
    low, high = wilson_interval(abandoned, units)
    return (*cells, f"{abandoned / units:.1%}", f"{100 * low:.1f}–{high:.1%}")


def _breaker_table(comparison: Comparison) -> Table:
    valve, truth = comparison.valve, comparison.truth
    table = Table(title="Circuit breaker", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("what")
    table.add_column("driver", justify="right")
    table.add_column("platform", justify="right")
    table.add_column("")
    table.add_row("users diverted / never let in", f"{truth.diverted:,} / {truth.turned_away:,}", "", "")
    latency = valve.kill_latency_ms
    table.add_row("tenth failure → flag off, median", _duration(latency["p50"]), "", "")
    table.add_row("tenth failure → flag off, longest", _duration(latency["max"]), "", "", end_section=True)
    for line in comparison.lines:
        if line.what.startswith(_BREAKER_LINES):
            table.add_row(line.what, line.expected, line.found, _MARKS[line.agrees])
    return table


def _event_table(comparison: Comparison) -> Table:
    truth, platform = comparison.truth, comparison.platform
    table = Table(title="Events of this run", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("what")
    table.add_column("driver", justify="right")
    table.add_column("platform", justify="right")
    table.add_column("")
    table.add_row("accepted (distinct acknowledged ids)", f"{truth.accepted:,}", "", "")
    table.add_row("counted", "", f"{platform.counted:,}", "")
    table.add_row("late", "", f"{platform.late:,}", "")
    table.add_row("duplicates sent / dropped", f"{truth.duplicates_sent:,}", f"{platform.duplicates_dropped:,}", "")
    table.add_row(
        "malformed sent / dead letters",
        f"{truth.malformed_sent:,}",
        f"{platform.dead_lettered:,}",
        "",
        end_section=True,
    )
    variants = tuple(comparison.truth.variants)
    for line in comparison.lines:
        if not line.what.startswith((*variants, *_BREAKER_LINES)):
            table.add_row(line.what, line.expected, line.found, _MARKS[line.agrees])
    return table


def _duration(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:,.1f} ms"
