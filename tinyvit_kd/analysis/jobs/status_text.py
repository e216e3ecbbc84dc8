"""Statuses for people: one job in some lines, several as a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tinyvit_kd.analysis.jobs.liveness import ACTIVE
from tinyvit_kd.analysis.jobs.part_status import PartStatus
from tinyvit_kd.analysis.jobs.run_status import RunStatus
from tinyvit_kd.analysis.jobs.store_status import StoreStatus
from tinyvit_kd.runtime.colours import Meaning, coloured
from tinyvit_kd.runtime.wording import binary_size, counted, duration, printable, table


class OtherStatus(Protocol):
    """A status of what is neither a run nor a store, and tells its rows itself."""

    @property
    def path(self) -> str:
        """Of its folder."""

    @property
    def stage(self) -> str:
        """The command that makes it."""

    @property
    def state(self) -> str:
        """As ``liveness.Life`` has them."""

    @property
    def message(self) -> str | None:
        """What it is doing, or what ended it."""

    @property
    def age(self) -> float | None:
        """Seconds since the last sign of life."""

    @property
    def done(self) -> int:
        """How much is done."""

    @property
    def total(self) -> int | None:
        """Of so much."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with its files."""

    def rows(self) -> Iterator[tuple[str, str]]:
        """What it tells besides, as names and texts."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for machines."""


Status = RunStatus | StoreStatus | OtherStatus
SHOWN_SHARDS = 5  # with missing blocks that are named
SHOWN_CHECKPOINTS = 3
STILL = 120.0  # seconds without a step or view, from which on it is told
_COLOURS: dict[str, Meaning] = {
    **dict.fromkeys(ACTIVE, "good"),
    **dict.fromkeys(("failed", "silent", "killed"), "bad"),
}
_AT_A_RATE = (*ACTIVE, "finished")
_NAMES = {"top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class"}
_SILENT = "killed, or its machine or its disk hangs"


def describe(statuses: Sequence[Status], details: bool = False) -> str:
    """One job in some lines, several as a table; with ``details``, several in some lines each."""
    if len(statuses) == 1 or details:
        return "\n\n".join("\n".join(_lines(status)) for status in statuses)
    return _table(statuses)


def percent(done: float, total: float) -> str:
    """A share that is 100 % only if all is done."""
    share = math.floor(1000 * done / total) / 10 if total else 100.0
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def _lines(status: Status) -> Iterator[str]:
    state = coloured(_state(status), _COLOURS.get(status.state, "strong"))
    yield f"{printable(status.path)}: {status.stage or 'unknown stage'}, {state}"
    rows = _rows(status)
    yield from (f"  {line}" for line in table([[name, printable(text)] for name, text in rows]).splitlines())


def _rows(status: Status) -> Iterator[tuple[str, str]]:
    if isinstance(status, RunStatus):
        return _run_rows(status)
    if isinstance(status, StoreStatus):
        return _store_rows(status)
    return itertools.chain(status.rows(), _common_rows(status))


def _state(status: Status | PartStatus) -> str:
    if status.state in ("silent", "killed") and status.age is not None:
        told = f"{status.state} for {duration(status.age)}"
        return f"{told} ({_SILENT})" if status.state == "silent" else told
    return status.state


def _run_rows(run: RunStatus) -> Iterator[tuple[str, str]]:
    if run.done is not None and run.total:
        left = f", {duration(run.seconds_left)} left" if run.seconds_left is not None else ""
        yield "done", f"{run.done:,} of {counted(run.total, 'step')}, {percent(run.done, run.total)}{left}"
    elif run.done is not None:
        yield "done", f"{counted(run.done, 'step')} of a number that is not known"
    if run.rate is not None and run.state in _AT_A_RATE:
        yield "rate", f"{run.rate:,.0f} images/s"
    if run.step is not None:
        waited = f", waiting for data {run.data_wait:.0%}" if run.data_wait is not None else ""
        yield "last line", f"step {run.step:,}{_loss(run.loss)}{waited}"
    if run.evaluation:
        yield "evaluation", _evaluation(run.evaluation)
    yield "checkpoints", _checkpoints(run) or "none"
    yield from _common_rows(run)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f", loss {loss:.4f}"


def _evaluation(scores: dict[str, float]) -> str:
    names = [name for name in scores if name.startswith(("top", "mean_per_class"))]
    told = ", ".join(f"{_NAMES.get(name, name)} {scores[name]:.2f} %" for name in names)
    return f"step {scores.get('step', 0):,.0f}: {told or 'no figures'}"


def _checkpoints(run: RunStatus) -> str:
    told = [
        f"step {each.step:,} ({binary_size(each.bytes)}, {duration(each.age)} old)"
        for each in run.checkpoints[:SHOWN_CHECKPOINTS]
    ]
    more = len(run.checkpoints) - SHOWN_CHECKPOINTS
    is_over = run.state in ("killed", "silent", "stopped", "failed")
    continued = "; the same command continues from the newest" if is_over else ""
    return ", ".join(told + ([f"{more} more"] if more > 0 else [])) + (continued if told else "")


def _store_rows(store: StoreStatus) -> Iterator[tuple[str, str]]:
    if store.total is not None and store.present is not None:
        left = f", {duration(store.seconds_left)} left" if store.seconds_left else ""
        yield "blocks", f"{store.present:,} of {store.total:,}, {percent(store.present, store.total)}{left}"
        yield (
            "of",
            f"{counted(store.views or 0, 'view')} of {counted(store.samples or 0, 'sample')} in "
            f"{counted(store.shards or 0, 'shard')}, top {store.topk} of {store.teacher}",
        )
    if store.rate is not None:
        yield "rate", f"{store.rate:,.0f} views/s"
    if store.missing_shards:
        yield "missing", _missing(store)
    if store.unfinished:
        yield "unfinished", f"{counted(store.unfinished, 'file')}, which a dump is writing or a killed one has left"
    if store.holes is not None:
        yield "holes", f"{store.holes:,} of the views that the last start made"
    several = len(store.parts) > 1 or any(part.part != (1, 1) for part in store.parts)
    for part in store.parts if several else ():
        yield f"part {part.part[0]}/{part.part[1]}", _part(part)
    for part in () if several else store.parts:
        if part.figures:
            yield "results", _figures(part)
    yield from _common_rows(store)


def _missing(store: StoreStatus) -> str:
    names = list(store.missing_shards)
    shown = ", ".join(f"{name}: {store.missing_shards[name]:,}" for name in names[:SHOWN_SHARDS])
    more = f" and {len(names) - SHOWN_SHARDS:,} more" if len(names) > SHOWN_SHARDS else ""
    first = f"; the first is view {store.first_missing[0][1]} of {store.first_missing[0][0]}"
    blocks = sum(store.missing_shards.values())
    is_alone = store.unattended and store.state in ACTIVE
    alone = f"; no running part makes {store.unattended:,} of them" if is_alone else ""
    return f"{counted(blocks, 'block')} of {counted(len(names), 'shard')} ({shown}{more}{first}){alone}"


def _part(part: PartStatus) -> str:
    told = [_state(part)]
    if part.done is not None and part.total and part.state != "finished":
        told.append(f"{part.done:,.0f} of {part.total:,.0f} views, {percent(part.done, part.total)}")
    if part.rate is not None and part.state in ACTIVE:
        told.append(f"{part.rate:,.0f} views/s")
    if part.seconds_left is not None:
        told.append(f"{duration(part.seconds_left)} left")
    if part.missing:
        told.append(f"{counted(part.missing, 'block')} missing")
    if part.figures:
        told.append(_figures(part))
    if part.state in ("failed", "stopped") and part.message:
        told.append(part.message)
    if part.age is not None and part.state in ACTIVE:
        told.append(f"last sign {duration(part.age)} ago{_still(part.stands_still)}")
    return ", ".join(told)


def _figures(part: PartStatus) -> str:
    figures = part.figures or {}
    told = [f"{figures[name]:,.0f} {name}" for name in ("records", "blocks") if isinstance(figures.get(name), int)]
    agreement = figures.get("label_agreement")
    if isinstance(agreement, float):
        told.append(f"best class is the label in {agreement:.2f} %")
    if part.seconds is not None:
        told.append(f"in {duration(part.seconds)}")
    return ", ".join(told)


def _common_rows(status: Status) -> Iterator[tuple[str, str]]:
    seconds, attempts = (status.seconds, status.attempts) if isinstance(status, RunStatus) else (None, None)
    if seconds is not None:
        yield "worked for", duration(seconds) + (f", in {counted(attempts, 'start')}" if attempts else "")
    if status.message:
        yield "said", status.message
    if status.age is not None and status.state != "finished":
        where = ""
        if isinstance(status, RunStatus) and status.host:
            where = f", on {status.host}" + (f", process {status.process}" if status.process else "")
        still = _still(status.stands_still) if isinstance(status, RunStatus) else ""
        yield "last sign", f"{duration(status.age)} ago{where}{still}"
    for note in status.notes:
        yield "note", note


def _still(seconds: float | None) -> str:
    return f", but no step for {duration(seconds)}" if seconds is not None and seconds >= STILL else ""


def _table(statuses: Sequence[Status]) -> str:
    rows = [["", "stage", "state", "done", "left", "rate", "loss", "top-1", "last sign"], *map(_row, statuses)]
    first, *lines = table([[printable(cell) for cell in row] for row in rows], right=(3, 4, 5, 6, 7)).splitlines()
    shown = [
        coloured(line, _COLOURS[status.state]) if status.state in _COLOURS else line
        for line, status in zip(lines, statuses, strict=True)
    ]
    notes = [f"{printable(status.path)}: {printable(text)}" for status in statuses for text in _to_say(status)]
    return "\n".join([first, *shown, *([""] if notes else []), *notes])


def _row(status: Status) -> list[str]:
    done = status.present if isinstance(status, StoreStatus) else status.done
    rate = left = loss = top1 = None
    if isinstance(status, RunStatus | StoreStatus):
        rate, left = status.rate if status.state in _AT_A_RATE else None, status.seconds_left
    if isinstance(status, RunStatus):
        loss, top1 = status.loss, (status.evaluation or {}).get("top1")
    return [
        status.path,
        status.stage or "",
        status.state,
        "" if done is None or not status.total else percent(done, status.total),
        duration(left) if left else "",
        "" if rate is None else f"{rate:,.0f}/s",
        "" if loss is None else f"{loss:.4f}",
        "" if top1 is None else f"{top1:.2f}",
        "" if status.age is None else f"{duration(status.age)} ago",
    ]


def _to_say(status: Status) -> Iterator[str]:
    """What of a job does not fit into a row, and needs somebody."""
    if status.state in ("failed", "unknown") and status.message:
        yield status.message
    if isinstance(status, StoreStatus) and status.missing_shards and (status.unattended or status.state not in ACTIVE):
        yield f"missing {_missing(status)}"
    yield from status.notes
