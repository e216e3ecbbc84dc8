"""What does the store hold, how fast is it, what does it cost a worker? Against the official files of fixed records.

Command:  taskset -c 1 python -m benchmarks.store --topk-sim FOLDER [--records 14000000] [--rounds 7] [--scratch FOLDER]
Result:   three tables, and a last line of JSON.

FOLDER holds in22k_k100.npz and in1k_k10.npz: simulated top-k of a teacher, ``indices`` and ``probs`` [n, K] and
``num_classes``. The official code (github.com/microsoft/Cream, TinyViT) keeps 4 + 4 K bytes a record and reads them one
by one by their keys.

* Divergences are from the distribution that is recovered from exact float32 top-k to that from the record. float16
  probabilities that sum to more than 1 leave the official record nothing to spread, and the divergence is infinite.
* Rates are records a second of processor time, of one core; rounds are interleaved, and medians are shown. The store of
  --records samples is read in the recipes' order (64 lanes, windows of 4,096), round after round; the raw file has
  --raw-records, and is read as the official code does, and as barely as it can be. Cold rates are by the clock, after
  the system was asked to forget the files, which says nothing of caches outside of the system.
* What several loading processes cost together: ``benchmarks.store_workers``.
* A worker: a fresh process that opens the store and reads 50 batches as one of 14 workers of one of 8 processes does.
  Time and memory are counted from after the imports.

It takes 3 GB of disk for a while, and about three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from benchmarks.local_files import store_folder
from benchmarks.machine import describe
from benchmarks.stored import worker
from benchmarks.stored.fidelity import fidelity
from benchmarks.stored.rates import (
    COLLATED,
    OFFICIAL,
    ONE,
    RAW,
    RECIPE,
    RawFile,
    cold_columns,
    forgets,
    measure,
    our_columns,
)
from benchmarks.stored.records import fill_store, simulated, write_official
from tinyvit_kd.store.names import MANIFEST
from tinyvit_kd.store.records import Block

Fidelity = dict[str, dict[str, float]]
Workers = dict[str, worker.Numbers]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topk-sim", type=Path, required=True)
    parser.add_argument("--records", type=int, default=14_000_000, help="of the large store")
    parser.add_argument("--raw-records", type=int, default=1_000_000, help="of the raw file and the small store")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sample", type=int, default=50_000, help="raw records a round")
    parser.add_argument("--gradients", type=int, default=1024, help="records whose gradients are compared")
    parser.add_argument("--scratch", type=Path, help="an existing folder for the files; null: the system's")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    teachers = {name: simulated(options.topk_sim / f"in{name}.npz") for name in ("22k_k100", "1k_k10")}
    kept = {name: fidelity(*teacher, options.gradients) for name, teacher in teachers.items()}
    print(fidelity_table(kept))
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        rates, workers, disk = in_folder(Path(folder), *teachers["22k_k100"], options)
    print(rates_table(rates))
    print(workers_table(workers))
    print(json.dumps(result_of(kept, rates, workers, options) | disk))


def in_folder(
    folder: Path, block: Block, num_classes: int, options: argparse.Namespace
) -> tuple[dict[str, float], Workers, dict[str, Any]]:
    """All that needs files: rates, workers, and what is to be said of the disk."""
    require_space(folder, options.records * 170 + options.raw_records * (170 + 450))
    store = fill_store(folder / "large", block, num_classes, options.records)
    small = fill_store(folder / "small", block, num_classes, options.raw_records)
    write_official(folder / "raw", block, options.raw_records)
    files = sum(path.stat().st_size for path in store_folder(store).rglob("*") if path.is_file())
    workers = {
        "small": worker.run(store_folder(small)),
        "large": worker.run(store_folder(store)),
        "large, all lanes": worker.run(store_folder(store), "--processes", "1", "--batch", "1024"),
        "official": worker.run(folder / "raw", "--raw"),
    }
    can_be_cold = forgets(store_folder(store) / MANIFEST)
    if not can_be_cold:
        print("files cannot be dropped from memory here: nothing is said of cold reading\n")
    with closing(RawFile(folder / "raw", block.probs.shape[1], options.raw_records, options.sample)) as raw:
        columns = our_columns(store, block) | raw.columns() | cold_columns(store)
        wanted = {name: work for name, work in columns.items() if can_be_cold or not name.startswith("cold")}
        rates = measure(wanted, options.rounds)
    return rates, workers, {"bytes_per_record_all_files": round(files / options.records, 2), "cold": can_be_cold}


def require_space(folder: Path, size: int) -> None:
    """End with a word if the files do not fit."""
    free = shutil.disk_usage(folder).free
    if free < size * 1.1:
        raise SystemExit(f"{folder} has {free / 1e9:.1f} GB free, {size * 1.1 / 1e9:.1f} GB are needed: see --scratch")


def fidelity_table(kept: dict[str, Fidelity]) -> str:
    """A line a kind of record."""
    lines = [
        "| | bytes a record | KL, mean of finite | infinite | gradient's error, new student | near the teacher |",
        "|---|---|---|---|---|---|",
    ]
    for teacher, records in kept.items():
        for name, each in records.items():
            errors = " | ".join(error_cell(each, logits) for logits in ("random", "near"))
            label = f"{name}, {teacher.partition('_')[2].replace('k', 'K=')}"
            lines.append(f"| {label} | {each['bytes']:.1f} | {each['kl']:.1e} | {each['kl_infinite']:.1%} | {errors} |")
    return "\n".join(lines) + "\n"


def error_cell(each: dict[str, float], logits: str) -> str:
    """Over all records, mean and largest of one."""
    total, mean, largest = (each[f"gradient_{logits}_{name}"] for name in ("all", "mean", "max"))
    return f"{total:.1e} (a record: {mean:.1e}, at most {largest:.1e})"


def rates_table(rates: dict[str, float]) -> str:
    """Thousand records a second, microseconds, and the ratio to reading the raw file shuffled into batches."""
    raw = rates[f"{OFFICIAL}, shuffled"]
    lines = ["| one core | k records/s | µs a record | over the official reader, shuffled |", "|---|---|---|---|"]
    lines += [f"| {name} | {each / 1000:.0f} | {1e6 / each:.2f} | {each / raw:.2f} |" for name, each in rates.items()]
    return "\n".join(lines) + "\n"


def workers_table(workers: Workers) -> str:
    """Memory, and times to the first record and to the first batch."""
    names = {
        "small": "store of the raw file's size, 8 of 64 lanes",
        "large": "large store, 8 of 64 lanes",
        "large, all lanes": "large store, 64 lanes, batches of 1,024",
        "official": "official keys of the raw file",
    }
    lines = ["| worker | MiB | s to first record | s to first batch |", "|---|---|---|---|"]
    for name, each in workers.items():
        batch = f"{each['first_batch_s']:.3f}" if "first_batch_s" in each else "–"
        lines.append(f"| {names[name]} | {each['mib']:.0f} | {each['first_record_s']:.3f} | {batch} |")
    return "\n".join(lines) + "\n"


def result_of(
    kept: dict[str, Fidelity], rates: dict[str, float], workers: Workers, options: argparse.Namespace
) -> dict[str, Any]:
    """What the last line says."""
    ours = rates[f"store, shuffled: {ONE}"]
    return {
        "machine": describe(),
        "pinned_to_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "records": options.records,
        "raw_records": options.raw_records,
        "rounds": options.rounds,
        "bytes_per_record_k100": round(kept["22k_k100"]["compact"]["bytes"], 2),
        "bytes_per_record_k10": round(kept["1k_k10"]["compact"]["bytes"], 2),
        "kl_k100": float(f"{kept['22k_k100']['compact']['kl']:.3g}"),
        "read_over_raw_shuffled": round(ours / rates[f"{OFFICIAL}, shuffled"], 2),
        "read_over_raw_shuffled_8_of_64_lanes": round(
            rates[f"store, shuffled: {RECIPE}"] / rates[f"{OFFICIAL}, shuffled"], 2
        ),
        "read_over_bare_pread_into_batches": round(ours / rates[COLLATED], 2),
        "read_over_bare_pread": round(ours / rates[f"{RAW}, shuffled"], 2),
        "worker_mib_14m": round(workers["large"]["mib"], 1),
        "first_record_s_14m": round(workers["large"]["first_record_s"], 4),
        "official_bytes_a_key": round(workers["official"]["mib"] * 2**20 / workers["official"]["keys"]),
        "fidelity": kept,
        "records_per_s": {name: round(each) for name, each in rates.items()},
        "workers": workers,
    }


if __name__ == "__main__":
    main()
