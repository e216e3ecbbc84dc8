"""The ablations' result as Markdown.

Command:  python -m benchmarks.ablation_tables OUT/ablations.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]  # a row of the result: what is changed, and of every seed its figures
HEADS = ("top1_head", "top1_head_dist")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="ablations.json")
    print(tables(json.loads(parser.parse_args(arguments).result.read_text())))


def tables(result: Mapping[str, Any]) -> str:
    """A table for each student, one of the heads where a student has two, one of the loop with the teacher in it."""
    rows = [row for row in result["rows"] if row["seeds"]]
    students = list(dict.fromkeys(row["student"] for row in rows))
    made = [student_table(student, [row for row in rows if row["student"] == student]) for student in students]
    made += [heads_table([row for row in rows if all(HEADS[0] in seed for seed in row["seeds"].values())])]
    made += [apart_table(result["online_and_stored"])]
    return "\n\n".join(table for table in made if table)


def student_table(student: str, rows: Sequence[Row]) -> str:
    """Top-1 of each row, and its difference from the first one, seed by seed."""
    seeds = ", ".join(rows[0]["seeds"])
    lines = [f"| {student} | | top-1 | seeds {seeds} | over the base |", "|---|---|---|---|---|"]
    before = ""
    for row in rows:
        own = scores(row)
        shown = row["what"] if row["what"] != before else ""
        gained = "–" if row is rows[0] else signed(own, scores(rows[0]))
        each = ", ".join(f"{value:.2f}" for value in own.values())
        lines.append(f"| {shown} | {row['value']} | {spread(list(own.values()))} | {each} | {gained} |")
        before = row["what"]
    return "\n".join(lines)


def heads_table(rows: Sequence[Row]) -> str:
    """Top-1 by each of two heads, and by the mean of their answers."""
    if not rows:
        return ""
    lines = ["| student, targets | both heads | class token | distillation token |", "|---|---|---|---|"]
    for row in rows:
        columns = [spread(list(scores(row, name).values())) for name in ("top1", *HEADS)]
        lines.append(f"| {row['student']}, {row['value']} | {' | '.join(columns)} |")
    return "\n".join(lines)


def apart_table(apart: Mapping[str, Mapping[str, float]]) -> str:
    """How far runs with the teacher in the loop are from those on stored targets."""
    if not apart:
        return ""
    lines = ["| online against stored, relative | weights | first loss | last loss | largest of the losses |"]
    lines += ["|---|---|---|---|---|"]
    for seed, found in apart.items():
        columns = [f"{found[name]:.1e}" for name in ("weights", "first_loss", "last_loss", "largest_loss")]
        lines.append(f"| seed {seed} | {' | '.join(columns)} |")
    return "\n".join(lines)


def scores(row: Row, name: str = "top1") -> dict[str, float]:
    """A figure of each seed."""
    return {seed: found[name] for seed, found in row["seeds"].items()}


def spread(values: Sequence[float]) -> str:
    """Mean and, of several, standard deviation."""
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def signed(own: Mapping[str, float], base: Mapping[str, float]) -> str:
    """Mean of the seeds' differences and, of several, its standard error."""
    apart = [own[seed] - base[seed] for seed in own if seed in base]
    mean = f"{statistics.mean(apart):+.2f}"
    return mean if len(apart) < 2 else f"{mean} ± {statistics.stdev(apart) / math.sqrt(len(apart)):.2f}"


if __name__ == "__main__":
    main()
