"""What differs between runs: settings beside results, and whether their data, stores and machines are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinyvit_kd.analysis.jobs.liveness import as_number
from tinyvit_kd.analysis.jobs.part_status import files_beside
from tinyvit_kd.analysis.jobs.run_folder import read_results, read_run, settings_of
from tinyvit_kd.analysis.jobs.run_status import run_status
from tinyvit_kd.analysis.jobs.store_status import StoreStatus, store_status
from tinyvit_kd.runs.run_files import RESULTS

Values = tuple[Any, ...]  # one per run; None where a run does not have it, or it is not known
HIGHER_IS_BETTER = ("top1", "top5", "mean_per_class", "images_per_second", "views_per_second")
LOWER_IS_BETTER = ("loss", "seconds")
_SAID = {
    "training data": "they were trained on different images",
    "evaluation data": "they were scored on different images: which score is the best cannot be said",
    "stores": "they learned from different stores",
}


@dataclass(frozen=True)
class Compared:
    """Some runs beside each other. Rows hold one value per run, None where it is not known.

    Attributes:
        runs: their paths.
        stages: of each.
        states: of each, with how much is done of one that has not finished.
        settings: by dotted field of the recipe, where they differ.
        settings_in_common: how many fields are the same in all.
        figures: by name, where they differ; of a run that has not finished, its last ones.
        figures_in_common: how many figures are the same in all.
        best: by name of a figure, which of the finished runs have the best value; not where they cannot be compared.
        data: hashes of shards, stores and teachers, by name, where they differ.
        surroundings: versions, machines and processes, by name, where they differ.
        notes: what to beware of.
    """

    runs: tuple[str, ...]
    stages: tuple[str | None, ...]
    states: tuple[str, ...]
    settings: dict[str, Values]
    settings_in_common: int
    figures: dict[str, Values]
    figures_in_common: int
    best: dict[str, tuple[int, ...]]
    data: dict[str, Values]
    surroundings: dict[str, Values]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for machines."""
        return asdict(self)


@dataclass(frozen=True)
class _Run:
    """What is compared of a run or a dump.

    Attributes:
        path: of its folder.
        stage: its name.
        state: with how much is done.
        finished: whether its figures are final.
        recipe: as it wrote it; empty where it cannot be read.
        figures: by name.
        results: ``results.json``; empty where there is none.
    """

    path: str
    stage: str | None
    state: str
    finished: bool
    recipe: Mapping[str, Any]
    figures: Mapping[str, float]
    results: Mapping[str, Any]


def compare_runs(paths: Sequence[tuple[str, bool]], now: float) -> Compared:
    """Compare runs, and dumps by their stores.

    Args:
        paths: of run folders and of stores, each with whether it is a run.
        now: Unix time, seconds.
    """
    runs = [_read_run(path, now) if is_run else _read_dump(path, now) for path, is_run in paths]
    settings, same_settings = _differing([_settings(run.recipe) for run in runs])
    figures, same_figures = _differing([run.figures for run in runs])
    data, _ = _differing([_data_of(run.results) for run in runs])
    surroundings, _ = _differing([_surroundings_of(run.results) for run in runs])
    comparable = _comparable(figures, settings, data, runs)
    return Compared(
        runs=tuple(run.path for run in runs),
        stages=tuple(run.stage for run in runs),
        states=tuple(run.state for run in runs),
        settings=_collapsed(settings),
        settings_in_common=same_settings,
        figures=figures,
        figures_in_common=same_figures,
        best={name: best for name in comparable if (best := _best(name, figures[name], runs))},
        data=data,
        surroundings=surroundings,
        notes=tuple(_notes(runs, settings, data, figures)),
    )


def _read_run(path: str, now: float) -> _Run:
    run, status = read_run(path), run_status(path, now)
    finished = status.state == "finished"
    share = f", step {status.done:,} of {status.total:,}" if status.done is not None and status.total else ""
    results = run.results or {}
    if finished and run.summary is not None:
        figures = dict(run.summary) | ({"seconds": results["seconds"]} if "seconds" in results else {})
    else:
        figures = _last(run.of_kind("train")) | _last(run.of_kind("eval"))
        figures |= {} if status.rate is None else {"images_per_second": status.rate}
        figures |= {} if status.seconds is None else {"seconds": status.seconds}
    if "parameters" in (student := results.get("student") or {}):
        figures["parameters"] = student["parameters"]
    state = status.state if finished else f"{status.state}{share}"
    return _Run(str(path), status.stage, state, finished, run.recipe or {}, _numbers(figures), results)


def _last(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in lines[-1].items() if name not in ("kind", "time")} if lines else {}


def _read_dump(path: str, now: float) -> _Run:
    status = store_status(path, now)
    finished = status.state == "finished"
    parts = [part.part for part in status.parts if part.figures]
    places = [files[0] for files in files_beside(path, parts, (RESULTS,))]
    kept = [results for place in places if (results := read_results(place)) is not None]
    results = kept[0] if kept else {}
    share = f", {status.present:,} of {status.total:,} blocks" if status.present is not None and status.total else ""
    state = status.state if finished else f"{status.state}{share}"
    figures = _dump_figures(status, kept)
    return _Run(path, "dump-logits", state, finished, results.get("recipe") or {}, _numbers(figures), results)


def _dump_figures(status: StoreStatus, kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of a dump: of one in several parts, the sums of what can be added."""
    known = {"blocks": status.present, "samples": status.samples, "holes": status.holes}
    if len(kept) == 1:
        return dict(kept[0]["figures"]) | known | {"seconds": kept[0].get("seconds")}
    tables = [_numbers(each["figures"]) | _numbers({"seconds": each.get("seconds")}) for each in kept]
    added = [name for name in ("views", "records", "seconds") if tables and all(name in each for each in tables)]
    return known | {name: sum(each[name] for each in tables) for name in added}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: as_number(value) for name, value in values.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return dict(settings_of({name: value for name, value in recipe.items() if name != "stage"}))  # it has a row


def _differing(columns: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Values], int]:
    """Rows that are not the same in all columns, and how many are; empty columns, of which nothing is known, aside."""
    rows = {name: tuple(column.get(name) for column in columns) for column in columns for name in column}
    known = [number for number, column in enumerate(columns) if column]
    different = {name: row for name, row in rows.items() if len({_text(row[number]) for number in known}) > 1}
    return different, len(rows) - len(different)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _collapsed(settings: dict[str, Values]) -> dict[str, Values]:
    """The same rows, but one for those of a section that some runs do not have and all the others agree on."""
    sections: dict[str, list[str]] = {}
    for name in settings:
        sections.setdefault(name.rpartition(".")[0], []).append(name)
    collapsed: dict[str, Values] = {}
    for section, names in sections.items():
        rows = [settings[name] for name in names]
        lacking = [all(row[run] is None for row in rows) for run in range(len(rows[0]))]
        alike = [name for name in names if section and any(lacking) and _agree(settings[name], lacking)]
        if len(alike) > 1:
            collapsed[f"{section}.*"] = tuple(None if lacks else f"{len(alike)} settings, alike" for lacks in lacking)
        collapsed |= {name: settings[name] for name in names if len(alike) < 2 or name not in alike}
    return collapsed


def _agree(row: Values, lacking: Sequence[bool]) -> bool:
    """Whether the runs that have a section have the same in this row."""
    return len({_text(each) for each, lacks in zip(row, lacking, strict=True) if not lacks}) == 1


def _data_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of what a run was made from."""
    found: dict[str, Any] = {}
    for name, shards in _sections(results.get("data")):
        found["training data" if name == "shards" else "evaluation data"] = shards.get("hash")
    stores, teachers = results.get("stores"), results.get("teacher")
    if isinstance(stores, list):
        hashes = [str(each.get("hash")) for each in stores if isinstance(each, dict)]
        found |= {"stores": " + ".join(hashes)} if hashes else {}
    known = [each for each in teachers if isinstance(each, dict)] if isinstance(teachers, list) else []
    if known:
        found["teacher"] = " + ".join(str(each.get("name")) for each in known)
        found["teacher's weights"] = " + ".join(str(each.get("weights_hash")) for each in known)
    return found


def _sections(value: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, each) for name, each in value.items() if isinstance(each, dict)] if isinstance(value, dict) else []


def _surroundings_of(results: Mapping[str, Any]) -> dict[str, Any]:
    versions, machine = results.get("versions"), results.get("machine")
    found = dict(versions) if isinstance(versions, dict) else {}
    if isinstance(machine, dict):
        gpus = machine.get("gpus") if isinstance(machine.get("gpus"), list) else []
        names = [str(each.get("name")) for each in gpus or [] if isinstance(each, dict)]
        found |= {name: machine.get(name) for name in ("host", "cpu", "cores", "device")}
        found["gpus"] = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "none"
    if "world_size" in results:
        found["processes"] = results["world_size"]
    return found


def _comparable(
    figures: Mapping[str, Values], settings: Mapping[str, Values], data: Mapping[str, Values], runs: Sequence[_Run]
) -> list[str]:
    """Figures of which one can be the best: losses only of one objective, scores only of the same images."""
    left_out: set[str] = set()
    stages_differ = len({run.stage for run in runs}) > 1
    if stages_differ or _several(data.get("stores", ())) or any(name.startswith("loss.") for name in settings):
        left_out |= {"loss"}
    if stages_differ or any(name.startswith("schedule.") for name in settings):
        left_out |= {"seconds"}
    if _several(data.get("evaluation data", ())):
        left_out |= {"top1", "top5", "mean_per_class"}
    return [name for name in figures if name in (*HIGHER_IS_BETTER, *LOWER_IS_BETTER) and name not in left_out]


def _several(values: Values) -> bool:
    """Whether the values that are known are not all the same."""
    return len({_text(value) for value in values if value is not None}) > 1


def _best(name: str, values: Values, runs: Sequence[_Run]) -> tuple[int, ...]:
    """Which of the finished runs have the best value, if two at least have one."""
    known = {
        number: value
        for number, (value, run) in enumerate(zip(values, runs, strict=True))
        if value is not None and run.finished
    }
    if len(known) < 2 or len(set(known.values())) < 2:
        return ()
    best = max(known.values()) if name in HIGHER_IS_BETTER else min(known.values())
    return tuple(number for number, value in known.items() if value == best)


def _notes(
    runs: Sequence[_Run], settings: Mapping[str, Values], data: Mapping[str, Values], figures: Mapping[str, Values]
) -> list[str]:
    notes = [said for name, said in _SAID.items() if _several(data.get(name, ()))]
    if "loss" in figures and "loss" not in _comparable(figures, settings, data, runs):
        notes.append("their losses are of different objectives or stores: none of them is the best")
    unread = [run.path for run in runs if not run.recipe]
    if unread:
        notes.append(f"the recipe is not known of {', '.join(unread)}: settings are compared without it")
    unfinished = [run.path for run in runs if not run.finished]
    if unfinished:
        notes.append(f"not finished, shown with their last figures: {', '.join(unfinished)}")
    unknown = [run.path for run in runs if run.finished and not run.results]
    if unknown:
        notes.append(f"data, stores, versions and machine are not known of {', '.join(unknown)}: no {RESULTS}")
    return notes
