"""What a person sees while a study runs. Progress goes to stderr, results to stdout."""

import math
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from fmnist_common.text import duration, level_text
from study.plans.plan import Plan
from study.plans.plan_file import FIRST_SEEDS
from study.plans.space import Search

if TYPE_CHECKING:
    from study.run.coordinator import State, View
    from study.run.machine import Estimate

SHOWN_ROWS = 60
WIDTH = 80  # of what is printed once
PAUSED = "paused:"  # how the event begins that the disk is full
LINE_SECONDS = 5.0  # between two lines where no bar can be drawn


class TerminalView:
    """A progress bar with the time left; what happens scrolls by above it."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self.task: TaskID | None = None

    def show(self, state: "State", event: str | None) -> None:
        """Move the bar."""
        if self.task is None:
            self.task = self.progress.add_task("trials", total=state.planned, note="")
        if event:
            self.progress.console.print(Text(event, style="dim"))
        self.progress.update(
            self.task, completed=state.done, total=state.planned, note=_note(state)
        )


class LinesView:
    """A line every few seconds when something happens, else now and then: for logs and pipes."""

    def __init__(self, *, everything: bool = False) -> None:
        """Tell `everything` that happens, however often."""
        self.pause = 0.0 if everything else LINE_SECONDS
        self.last = time.monotonic()  # line
        self.last_event = -math.inf  # so that the first one is shown at once

    def show(self, state: "State", event: str | None) -> None:
        """Print a line when one is due, at every failure, and at the end."""
        now = time.monotonic()
        final = state.done == state.planned or (event is not None and _is_grave(event))
        told = event is not None and (final or now - self.last_event >= self.pause)
        if told or now - self.last > 3 * LINE_SECONDS:
            self.last = now
            self.last_event = now if told else self.last_event
            parts = [f"{state.done}/{state.planned} trials", _note(state), event]
            print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


class QuietView:
    """Nothing at all."""

    def show(self, state: "State", event: str | None) -> None:
        """Keep quiet, unless somebody has to do something."""
        if event is not None and event.startswith(PAUSED):
            print(event, file=sys.stderr, flush=True)


@contextmanager
def view_for(console: Console, *, quiet: bool = False, verbose: bool = False) -> Iterator["View"]:
    """Yield the view that suits the console."""
    if quiet:
        yield QuietView()
    elif verbose:
        yield LinesView(everything=True)
    elif console.is_terminal and sys.stderr.isatty():  # FORCE_COLOR makes no terminal of a file
        view = TerminalView(console)
        with view.progress:
            yield view
    else:
        yield LinesView()


def _is_grave(event: str) -> bool:
    return "failed:" in event or event.startswith((PAUSED, "goes on:"))


def _note(state: "State") -> str:
    parts = []
    if state.failed:
        parts.append(f"{state.failed} failed")
    if state.seconds_left is not None:
        parts.append(f"{duration(max(0.0, state.seconds_left))} left")
    return ", ".join(parts)


def announcement(plan: Plan, name: str, costs: "Estimate | None") -> Iterator[str]:
    """Say what is planned, how long it will take, and what makes it shorter."""
    yield f"study {name}: {plan.design} on {plan.dataset}, {_size(plan)} of {_epochs(plan)}"
    if plan.max_seeds:
        yield f"then up to {plan.max_seeds} seeds for the levels that are not decided"
    if costs is None:
        enough = "every level is decided, or has the most seeds" if plan.max_seeds else ""
        yield f"nothing left to run: {enough or 'every planned trial is done'}"
        return
    already = 0 if plan.max_seeds else plan.trial_count - costs.trials
    done = f"{already} are done, " if already > 0 else ""
    bound = "at most" if plan.search and plan.search.pruner != "none" else "about"
    where = f"{costs.workers} worker{'s' if costs.workers > 1 else ''} ({', '.join(costs.devices)})"
    if plan.base_config.is_foreign:
        yield f"{done}{costs.trials} to run on {where}; how long that takes is not known before"
    else:
        yield (
            f"{done}{costs.trials} to run on {costs.training_images} training images each: "
            f"{bound} {duration(costs.seconds)} on {where}, measured over a few steps"
        )
    yield from _banks(plan, costs)
    trials = f"--trials (now {plan.search.trials}), " if plan.search else ""
    seeds = f"--seeds (now {plan.seeds})"
    if plan.max_seeds:
        margin = f"{plan.negligible:g}" if plan.negligible else "none"
        seeds = f"--max-seeds (now {plan.max_seeds}), --negligible (now {margin})"
    yield (
        f"shorter: {trials}{seeds}, --epochs (now {plan.epochs}), "
        f"--subset (now {plan.subset or 'all'}), --timeout 30m; --dry-run only plans; "
        "Ctrl-C keeps what is done"
    )


def _banks(plan: Plan, costs: "Estimate") -> Iterator[str]:
    """Say of networks of the user's whether they are trained together, and if not, why."""
    if costs.obstacle:
        instead = f", not of {costs.bank}" if costs.bank > 1 else ""
        yield f"banks of one{instead}: {costs.obstacle}"
    elif costs.bank > 1 and plan.base_config.has_foreign_network:
        yield f"banks of {costs.bank}: in the first steps each member is what it is alone"


def show_plan(
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    costs: "Estimate | None",
    why_not: str,
    power: str | None,
) -> None:
    """Print a plan's factors, its rows with their size and cost, and the whole; 80 columns wide."""
    _say(f"{plan.name}: {plan.description}")
    more = f", up to {plan.max_seeds} for what is not decided" if plan.max_seeds else ""
    _say(f"{plan.design} on {plan.dataset}, {_epochs(plan)}, seeds 0 to {plan.seeds - 1}{more}")
    source, reported = plan.figures.source, plan.figures.reported
    if source:
        chosen = f"chosen on {source['selected_on']} data"
        _say(f"{source['name']} reported figures of {len(reported)} variants, {chosen}")
        if "url" in source:
            print(f"  {source['url']}")
        if "license" in source:
            _say(f"  licence: {source['license']}", indent=4)
    width = max([len("factor"), *map(len, plan.factors)])
    if plan.factors:
        print(f"\n{'factor':{width}}  levels (* baseline)")
    for factor in plan.factors:
        base = getattr(plan.base_config, factor)
        levels = (level_text(v) + ("*" if v == base else "") for v in plan.levels(factor))
        _say(f"{factor:{width}}  {', '.join(levels)}", indent=width + 2)
    if plan.search:
        print()
        _show_search(plan.search)
    if rows:
        _show_rows(plan, rows)
    print()
    if costs is None:
        print(_size(plan))
        _say(f"what they cost was not measured: {why_not}")
    else:
        where = f"{costs.workers} worker{'s' if costs.workers > 1 else ''}"
        places = ", ".join(costs.devices)
        took = f"about {duration(costs.seconds)} on {where} ({places})"
        took += f", measured over a few steps on {plan.dataset}"
        if plan.base_config.is_foreign:
            took = "how long its trainings take is not known before"
        _say(f"{_size(plan)}: {took}")
    if power:
        _say(f"can detect: {power}")


def _show_rows(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> None:
    factorial, base = plan.design == "factorial", plan.base_config
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(", ".join(plan.factors) if factorial else "variant", overflow="fold")
    several = len(plan.epoch_counts) > 1
    for name in (*(("epochs",) if several else ()), "parameters", "mult-adds", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:SHOWN_ROWS]:
        changes = row["changes"]
        if factorial:
            levels = [changes.get(factor, getattr(base, factor)) for factor in plan.factors]
            label = ", ".join(map(level_text, levels))
        elif row["factor"] is None or changes.keys() == {row["factor"]}:
            label = row["variant"]
        else:  # a listed row has its name
            label = f"{row['factor']}: {level_text(row['level'])}"
        numbers = [
            *([str(row["epochs"])] if several else []),
            "-" if row["parameters"] is None else f"{row['parameters']:,}",
            _short(row["multiply_adds"]),
            "-" if row["seconds"] is None else f"{row['seconds']:.1f}",
        ]
        table.add_row(Text(label), *numbers)
    print()
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as text:
        console.print(table)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))
    if len(rows) > SHOWN_ROWS:
        print(f"... and {len(rows) - SHOWN_ROWS} more (--json lists all)")


def _say(text: str, indent: int = 2) -> None:
    wrapped = textwrap.fill(
        text,
        WIDTH,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,  # names and paths stay whole
        break_long_words=False,
    )
    print(wrapped)


def _short(number: int | None) -> str:
    """Write a count in three or more digits: 3.9 M; - where it is not known."""
    if number is None:
        return "-"
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return str(number)


def _epochs(plan: Plan) -> str:
    least, most = plan.epoch_counts[0], plan.epoch_counts[-1]
    span = f"{most}" if least == most else f"{least} to {most}"
    return f"{span} epoch{'s' if most > 1 else ''}"


def _size(plan: Plan) -> str:
    if plan.search:
        more = f", the best on up to {plan.seeds} seeds" if plan.seeds > 1 else ""
        return f"{plan.search.trials} trials{more}"
    seeds, first = (FIRST_SEEDS, "first ") if plan.max_seeds else (plan.seeds, "")
    trials = plan.variant_count * seeds
    return f"{plan.variant_count} variants x {first}{seeds} seeds = {trials} trials"


def _show_search(search: Search) -> None:
    print(
        f"sampler {search.sampler}, pruner {search.pruner}, for {' and '.join(search.objectives)}"
    )
    width = max(len(parameter.name) for parameter in search.space)
    print(f"{'parameter':{width}}  values")
    for parameter in search.space:
        if parameter.levels:
            values = ", ".join(map(level_text, parameter.levels))
        else:
            scale = (
                " (logarithmic)"
                if parameter.log
                else f" in steps of {parameter.step:g}"
                if parameter.step
                else ""
            )
            values = f"{parameter.low:g} to {parameter.high:g}{scale}"
        conditions = [f"{name} = {' or '.join(map(level_text, v))}" for name, v in parameter.when]
        where = f", where {', '.join(conditions)}" if conditions else ""
        print(f"{parameter.name:{width}}  {values}{where}")
