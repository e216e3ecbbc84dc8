"""A plan for people: a table with a column per stage, what limits each, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tinyvit_kd.planning.findings import Finding
from tinyvit_kd.planning.given import PARTS
from tinyvit_kd.planning.hours import NAMES, Hours
from tinyvit_kd.planning.measuring.rates import MeasuredRates
from tinyvit_kd.planning.plan import Plan
from tinyvit_kd.planning.stage_plan import StagePlan
from tinyvit_kd.runtime.colours import coloured
from tinyvit_kd.runtime.wording import binary_size, counted, duration, printable, table

_UNKNOWN = "not known"
Cell = Callable[[StagePlan], str]


def describe_plan(plan: Plan, hours: Mapping[str, Hours | None], measured: MeasuredRates | None) -> str:
    """The whole text.

    Args:
        hours: of each stage, by its recipe.
        measured: rates of this machine; None: they were not asked for.
    """
    parts = [_table(plan.stages, hours)] if plan.stages else []
    parts += [text for text in (_measured(plan.stages, measured), _limits(plan.stages, hours)) if text]
    parts.append(_findings(plan))
    return "\n\n".join(parts)


def _table(stages: Sequence[StagePlan], hours: Mapping[str, Hours | None]) -> str:
    rows = [["", *(stage.stage for stage in stages)], ["recipe", *(_name(stage, stages) for stage in stages)]]
    for label, cell in _rows(hours).items():
        cells = [cell(stage) for stage in stages]
        if any(cells):
            rows.append([label, *(text or "–" for text in cells)])
    return table(rows, right=range(1, len(stages) + 1))


def _name(stage: StagePlan, stages: Sequence[StagePlan]) -> str:
    """The file's name; with its folder where others have the same."""
    names = [each.recipe.rpartition("/")[2] for each in stages]
    own = stage.recipe.rpartition("/")[2]
    return printable(own if names.count(own) == 1 else stage.recipe)


def _rows(hours: Mapping[str, Hours | None]) -> dict[str, Cell]:
    return {
        "samples": lambda stage: _count(stage.samples),
        "shards": lambda stage: _count(stage.images),
        "pixels of a view": lambda stage: f"{stage.size}" if stage.size else _UNKNOWN,
        "epochs": lambda stage: "" if stage.epochs is None else f"{stage.epochs:,}",
        "steps": lambda stage: "" if stage.epochs is None else _count(stage.steps),
        "views": lambda stage: "" if stage.stage == "evaluate" else _count(stage.views),
        "views of evaluations": lambda stage: f"{stage.scored:,}" if stage.scored else "",
        "images decoded": lambda stage: _count(stage.decodes),
        "teacher, forward passes": lambda stage: f"{stage.teacher_passes:,}" if stage.teacher_passes else "",
        "student, forward passes": lambda stage: f"{stage.student_passes:,}" if stage.student_passes else "",
        "student, backward passes": lambda stage: f"{stage.backward_passes:,}" if stage.backward_passes else "",
        "network, parameters": lambda stage: _millions(stage.network and stage.network.parameters),
        "network, multiply-adds per view": lambda stage: _operations(stage.network and stage.network.multiply_adds),
        "multiply-adds": lambda stage: _operations(stage.multiply_adds),
        "images read": lambda stage: f"{'at least ' if stage.more_images_read else ''}{_size(stage.image_bytes)}",
        "store, read": lambda stage: "" if stage.store_bytes is None else f"about {_size(stage.store_bytes)}",
        "written": lambda stage: "" if stage.written is None else f"about {_size(stage.written)}",
        "store, bytes per record": _record_bytes,
        "store": lambda stage: "" if stage.store is None else f"{_about(stage)}{_size(stage.store.bytes)}",
        "  in the official format": lambda stage: "" if stage.store is None else _size(stage.store.raw_bytes),
        "  as dense float32": lambda stage: "" if stage.store is None else _size(stage.store.dense_bytes),
        "store, files": lambda stage: "" if stage.store is None else f"{stage.store.files:,}",
        "checkpoint": lambda stage: _size(stage.checkpoint_bytes) if stage.checkpoint_bytes else "",
        "checkpoints at a time": _checkpoints,
        "processes x workers": lambda stage: f"{stage.processes} x {stage.workers}",
        "memory per process, network": lambda stage: _about_size(stage.memory and stage.memory.of_network),
        "  weights": lambda stage: _memory(stage, "weights"),
        "  gradients": lambda stage: _memory(stage, "gradients"),
        "  moments": lambda stage: _memory(stage, "moments"),
        "  average": lambda stage: _memory(stage, "average"),
        "  activations (estimate)": lambda stage: _memory(stage, "activations"),
        "memory per process, loading": lambda stage: _about_size(stage.memory and stage.memory.of_loading),
        "  batches": lambda stage: _memory(stage, "batches"),
        "  blocks of the store": lambda stage: _memory(stage, "blocks"),
        "  workers (estimate)": lambda stage: _memory(stage, "workers"),
        "  program (estimate)": lambda stage: _memory(stage, "program"),
        **{f"time, {NAMES[part]}": _part_cell(hours, part) for part in PARTS},
        "time": lambda stage: _time(hours.get(stage.recipe)),
    }


def _part_cell(hours: Mapping[str, Hours | None], part: str) -> Cell:
    def cell(stage: StagePlan) -> str:
        found = hours.get(stage.recipe)
        if found is None:
            return ""
        if part in found.seconds:
            return duration(found.seconds[part])
        return _UNKNOWN if part in found.unknown and found.seconds else ""

    return cell


def _time(found: Hours | None) -> str:
    if found is None or found.total is None:
        return _UNKNOWN
    return f"{'at least ' if found.unknown else ''}{duration(found.total)}"


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _size(number: float | None) -> str:
    return _UNKNOWN if number is None else binary_size(number)


def _about_size(number: float | None) -> str:
    return "" if number is None else f"about {_size(number)}"


def _about(stage: StagePlan) -> str:
    return "" if stage.store is None or stage.store.measured else "about "


def _record_bytes(stage: StagePlan) -> str:
    if stage.store is None:
        return ""
    return f"{stage.store.record_bytes:.1f}{'' if stage.store.measured else ' (estimate)'}"


def _checkpoints(stage: StagePlan) -> str:
    if not stage.checkpoint_bytes:
        return ""
    return f"{stage.checkpoints}: {_size(stage.checkpoints * stage.checkpoint_bytes)}"


def _memory(stage: StagePlan, part: str) -> str:
    amount = 0 if stage.memory is None else getattr(stage.memory, part)
    return _size(amount) if amount else ""


def _millions(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number / 1e6:,.1f}M"


def _operations(number: float | None) -> str:
    """A number of operations with an SI prefix: ``4.3 G``, ``103 E``."""
    if number is None:
        return _UNKNOWN
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"]
    while number >= 999.5 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    return f"{number:.3g} {prefixes[0]}".rstrip()


def _measured(stages: Sequence[StagePlan], measured: MeasuredRates | None) -> str:
    """The rates of this machine, as a table."""
    if measured is None or not measured.rates:
        return ""
    parts = [part for part in PARTS if any(part in each for each in measured.rates.values())]
    rows = [["", "recipe", *parts]]
    for stage in stages:
        rounds = measured.rounds.get(stage.recipe, {})
        cells = [_rate(rounds[part].per_second) if part in rounds else "–" for part in parts]
        rows.append([stage.stage, _name(stage, stages), *cells])
    return (
        f"Measured on this machine ({measured.place}), each part alone, medians:\n{table(rows, right=range(2, 9))}\n"
        f"{_units(parts)}"
    )


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _limits(stages: Sequence[StagePlan], hours: Mapping[str, Hours | None]) -> str:
    lines = []
    unknown: list[str] = []
    for stage in stages:
        found = hours.get(stage.recipe)
        if found is None:
            continue
        unknown += found.unknown
        if found.limit is not None:
            lines.append(f"{stage.stage} ({_name(stage, stages)}): {NAMES[found.limit]} limits.")
            lines += [f"  Relief: {found.relief}."] if found.relief else []
            lines += [f"  {found.spare}."] if found.spare else []
    totals = [found.total for found in hours.values() if found is not None and found.total is not None]
    if len(totals) > 1:
        missing = len(totals) < len(stages) or bool(unknown)
        lines.append(f"All of it, one after the other: {'at least ' if missing else ''}{duration(sum(totals))}.")
    if unknown:
        lines.append(_how_to_know(list(dict.fromkeys(unknown))))
    return "\n".join(lines)


def _how_to_know(parts: Sequence[str]) -> str:
    """How rates that are not known become known."""
    example = f"--rate {parts[0]}=NUMBER"
    return (
        f"Hours need rates that are not known. Give them, as in {example}, or measure them here (--measure):\n"
        f"{_units(parts)}"
    )


def _units(parts: Sequence[str]) -> str:
    return "\n".join(f"  {part}: {PARTS[part]}" for part in parts)


def _findings(plan: Plan) -> str:
    notes = _items([each for each in plan.findings.found if not each.wrong])
    wrong = _items(plan.findings.wrong)
    lines = ["Worth knowing:", *notes] if notes else []
    if wrong:
        return "\n".join([*lines, coloured(f"{counted(len(wrong), 'thing')} to correct first:", "bad"), *wrong])
    return "\n".join([*lines, coloured("Nothing that can be checked without running is wrong.", "good")])


def _items(findings: Sequence[Finding]) -> list[str]:
    """A list of findings; what was found in several recipes is named once."""
    recipes: dict[str, list[str]] = {}
    for each in findings:
        recipes.setdefault(each.text, []).append(each.recipe)
    return [_item(", ".join(dict.fromkeys(names)), text) for text, names in recipes.items()]


def _item(recipes: str, text: str) -> str:
    """One finding; lines after its first are indented."""
    indented = printable(text, lines=True).replace("\n", "\n    ")
    return f"  - {printable(recipes)}: {indented}"
