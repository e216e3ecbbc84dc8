"""The tables of an audition, for people and as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyvit_kd.analysis.auditions.answers import Figures, Mean
from tinyvit_kd.analysis.auditions.brief_student import StudentScore
from tinyvit_kd.runtime.wording import binary_size, duration, printable, table

NONE = "–"


@dataclass(frozen=True)
class Costs:
    """What the whole of a dump takes with one teacher.

    Attributes:
        views_per_second: of the teacher alone, here.
        seconds: of one process on this machine.
        limit: the slowest part, for people.
        record_bytes: of a record on disk.
        store_bytes: of all records.
    """

    views_per_second: float
    seconds: float
    limit: str
    record_bytes: float
    store_bytes: int


@dataclass
class TeacherResult:
    """What came of one teacher.

    Attributes:
        name: of its file, for people.
        path: of that file.
        problem: why there are no figures; empty where there are.
        network: the network's name.
        num_classes: C.
        class_list: its name; None if it is not known.
        labels_unknown: why its agreement with the labels is not known; empty where it is.
        labels_note: what was taken for granted of them; empty if nothing was.
        student: what came of the student; None where none was trained.
        student_problem: why none could be.
    """

    name: str
    path: str
    problem: str = ""
    network: str = ""
    num_classes: int = 0
    class_list: str | None = None
    labels_unknown: str = ""
    labels_note: str = ""
    figures: Figures | None = None
    costs: Costs | None = None
    student: StudentScore | None = None
    student_problem: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything that was asked for is missing."""
        return bool(self.problem or self.student_problem)


@dataclass
class AuditionResult:
    """What came of all teachers.

    Attributes:
        recipe: its path.
        samples: that were asked about; holes are among them.
        shards: that they are from.
        held_out: samples that students were scored on; 0 where none was trained.
        whole: samples of all shards.
        views: V of the recipe; ``topk`` is its K.
        made_views: views per second that one core decodes and augments.
        place: the device of the teachers, for people.
        agreement: percent of views with the same best class, by names of two teachers.
    """

    recipe: str
    samples: int
    holes: int
    shards: int
    held_out: int
    whole: int
    views: int
    topk: int
    made_views: float
    place: str
    teachers: list[TeacherResult] = field(default_factory=list)
    agreement: dict[tuple[str, str], Mean | None] = field(default_factory=dict)

    @property
    def answered(self) -> list[TeacherResult]:
        """The teachers with figures."""
        return [each for each in self.teachers if each.figures is not None]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        names = ("recipe", "samples", "holes", "shards", "held_out", "views", "topk", "place")
        return {
            "format": 1,
            **{name: getattr(self, name) for name in names},
            "whole_samples": self.whole,
            "made_views_per_second": self.made_views,
            "teachers": [_teacher_values(each) for each in self.teachers],
            "agreement": [
                {"teachers": list(pair), "percent": _mean_values(mean)} for pair, mean in self.agreement.items()
            ],
        }


def _teacher_values(teacher: TeacherResult) -> dict[str, Any]:
    figures, costs, student = teacher.figures, teacher.costs, teacher.student
    values: dict[str, Any] = {
        "name": teacher.name,
        "path": teacher.path,
        "problem": teacher.problem or None,
        "student_problem": teacher.student_problem or None,
    }
    if figures is not None:
        values |= {
            "network": teacher.network,
            "num_classes": teacher.num_classes,
            "class_list": teacher.class_list,
            "labels_unknown": teacher.labels_unknown or None,
            "labels_note": teacher.labels_note or None,
            "label_top1": _mean_values(figures.right),
            "best_probability": figures.best,
            "entropy": figures.entropy,
            "first_over_second": figures.ratio,
            "kept": {str(k): mass for k, mass in figures.kept.items()},
        }
    if costs is not None:
        values |= {name: getattr(costs, name) for name in ("views_per_second", "limit", "record_bytes", "store_bytes")}
        values["hours"] = costs.seconds / 3600
    if student is not None:
        scores = {name: _mean_values(getattr(student, name)) for name in ("right", "cross_entropy", "same")}
        values["student"] = {"steps": student.steps, **scores}
    return values


def _mean_values(mean: Mean | None) -> dict[str, float] | None:
    return None if mean is None else {"mean": mean.value, "error": mean.error, "count": mean.count}


def describe(result: AuditionResult) -> str:
    """The tables, with whatever has to be said of them below."""
    parts = [_opening(result)]
    if result.answered:
        parts.append(_by_teacher(result))
    if result.agreement:
        parts.append("Percent of the views in which two have the same best class:\n" + _matrix(result))
    if any(each.student for each in result.teachers):
        parts.append(_students(result))
    if notes := "\n".join(_notes(result)):
        parts.append(notes)
    return printable("\n\n".join(parts), lines=True)


def _opening(result: AuditionResult) -> str:
    holes = f", of which {result.holes:,} are holes" if result.holes else ""
    return (
        f"{result.recipe}: the first views of {result.samples:,} samples from {result.shards:,} of its shards{holes}.\n"
        f"The whole: {result.whole:,} samples, {result.views} views each, top {result.topk}. "
        f"Here ({result.place}), a core makes {result.made_views:,.0f} views per second."
    )


def _columns(head: str, rows: Mapping[str, Callable[[TeacherResult], str]], teachers: Sequence[TeacherResult]) -> str:
    """A table with a row for each figure and a column for each teacher."""
    cells = [[head, *(each.name for each in teachers)]]
    cells += [[name, *(of(each) for each in teachers)] for name, of in rows.items()]
    return table(cells, right=range(1, len(teachers) + 1))


def _by_teacher(result: AuditionResult) -> str:
    def figure(of: Callable[[Figures], str]) -> Callable[[TeacherResult], str]:
        return lambda teacher: NONE if teacher.figures is None else of(teacher.figures)

    def cost(of: Callable[[Costs], str]) -> Callable[[TeacherResult], str]:
        return lambda teacher: NONE if teacher.costs is None else of(teacher.costs)

    def kept(k: int) -> Callable[[Figures], str]:
        return lambda figures: f"{figures.kept[k]:.3f}" if k in figures.kept else NONE

    sizes = sorted({k for each in result.answered if each.figures for k in each.figures.kept})
    rows = {
        "network": lambda teacher: teacher.network or NONE,
        "classes": lambda teacher: f"{teacher.num_classes:,}" if teacher.num_classes else NONE,
        "best class is the label, %": figure(lambda each: _shown(each.right)),
        "probability of the best class": figure(lambda each: f"{each.best:.3f}"),
        "best over second, median": figure(lambda each: _ratio(each.ratio)),
        "entropy, nats": figure(lambda each: f"{each.entropy:.3f}"),
        **{f"within the top {k}{' (K)' if k == result.topk else ''}": figure(kept(k)) for k in sizes},
        "views per second here": cost(lambda each: f"{each.views_per_second:,.4g}"),
        "time of the whole here": cost(lambda each: duration(each.seconds)),
        "  the slowest part": cost(lambda each: each.limit),
        "bytes per record": cost(lambda each: f"{each.record_bytes:.1f}"),
        "store": cost(lambda each: binary_size(each.store_bytes)),
    }
    return _columns("", rows, result.answered)


def _matrix(result: AuditionResult) -> str:
    names = [each.name for each in result.answered]
    rows = [["", *names]]
    for one in names:
        row = [one]
        for other in names:
            pair = (one, other) if (one, other) in result.agreement else (other, one)
            row.append("" if one == other else _shown(result.agreement.get(pair)))
        rows.append(row)
    return table(rows, right=range(1, len(names) + 1))


def _students(result: AuditionResult) -> str:
    def score(of: Callable[[StudentScore], str]) -> Callable[[TeacherResult], str]:
        return lambda teacher: NONE if teacher.student is None else of(teacher.student)

    rows = {
        "steps": score(lambda each: f"{each.steps:,}"),
        "best class is the label, %": score(lambda each: _shown(each.right)),
        "cross-entropy of the labels, nats": score(lambda each: _shown(each.cross_entropy, 3)),
        "best class is its teacher's, %": score(lambda each: _shown(each.same)),
    }
    head = f"A student of each, on views of {result.held_out:,} other samples of these:\n"
    return head + _columns("", rows, result.answered)


def _shown(mean: Mean | None, digits: int = 1) -> str:
    """A mean with its standard error."""
    if mean is None:
        return NONE
    return f"{mean.value:.{digits}f}" + ("" if math.isnan(mean.error) else f" ± {mean.error:.{digits}f}")


def _ratio(ratio: float) -> str:
    return f"{ratio:.3g}" if ratio < 1000 else "over 1,000"


def _notes(result: AuditionResult) -> Iterator[str]:
    for teacher in result.teachers:
        if teacher.problem:
            yield f"{teacher.name}: left out: {teacher.problem}"
        if teacher.labels_unknown:
            yield f"{teacher.name}: how often it is right is not known: {teacher.labels_unknown}"
        if teacher.labels_note:
            yield f"{teacher.name}: {teacher.labels_note}"
        if teacher.student_problem:
            yield f"{teacher.name}: no student: {teacher.student_problem}"
