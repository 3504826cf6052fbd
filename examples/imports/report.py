"""Tables for people: a run while it goes on, and what came out."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.imports.domain.comparison import Comparison, Line, VariantCounted
from examples.imports.progress import Progress
from shared.statistics.proportion import wilson_interval

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
    return Group(heading, bar, _counters(progress), _variants_so_far(progress))


def status_line(progress: Progress) -> str:
    """The same in one line, for logs."""
    by_variant = ", ".join(
        f"{name} {counted.units:,} units {counted.completed:,} completed"
        for name, counted in progress.variants.items()
    )
    return (
        f"{progress.phase.value}: users {progress.active:,} active {progress.done:,}/{progress.users:,} done; "
        f"events {progress.accepted:,} accepted ({progress.rate():,.0f}/s), {progress.counted:,} counted, "
        f"lag {progress.lag:,}; {by_variant or 'no results yet'}"
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
    for name in ("variant", "given", "units counted", "completed", "mean duration"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for name, given in progress.given.items():
        counted = progress.variants.get(name, VariantCounted(0, 0, None))
        table.add_row(
            name, f"{given:,}", f"{counted.units:,}", f"{counted.completed:,}", _duration(counted.mean_duration)
        )
    return table


def result_view(comparison: Comparison) -> RenderableType:
    """The variants, the events, and the truth beside each figure."""
    return Group(_variant_table(comparison), Text(), _event_table(comparison))


def _variant_table(comparison: Comparison) -> Table:
    table = Table(title="Abandonment by variant", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in ("variant", ""):
        table.add_column(name)
    for name in ("units", "completed", "abandoned", "rate", "95 % (Wilson)", "mean duration"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, counted in comparison.platform.variants.items():
        truth = comparison.truth.variants[name]
        table.add_row(name, "platform", *_figures(counted.units, counted.abandoned), _duration(counted.mean_duration))
        table.add_row("", "truth", *_figures(truth.units, truth.abandoned), _duration(truth.mean_duration))
        marks = _marks(comparison.lines, name)
        counts = (marks["units"], marks["completed"], marks["abandoned"])
        table.add_row("", "", *counts, "", "", marks["mean duration"], end_section=True)
    return table


def _marks(lines: tuple[Line, ...], variant: str) -> Mapping[str, Text]:
    prefix = f"{variant}: "
    return {line.what.removeprefix(prefix): _MARKS[line.agrees] for line in lines if line.what.startswith(prefix)}


def _figures(units: int, abandoned: int) -> tuple[str, str, str, str, str]:
    if not 0 <= abandoned <= units or units == 0:
        return f"{units:,}", f"{units - abandoned:,}", f"{abandoned:,}", "–", "–"
    low, high = wilson_interval(abandoned, units)
    share, interval = f"{abandoned / units:.1%}", f"{100 * low:.1f}–{high:.1%}"
    return f"{units:,}", f"{units - abandoned:,}", f"{abandoned:,}", share, interval


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
        if not line.what.startswith(variants):
            table.add_row(line.what, line.expected, line.found, _MARKS[line.agrees])
    return table


def _duration(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:,.1f} ms"
