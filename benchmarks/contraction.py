"""Does a contraction pay? CIFAR-10: its winner against a uniformly scaled network and random ones, all trained fully.

Command:  python -m benchmarks.contraction --data FOLDER_OF_CIFAR10_SHARDS --out FOLDER [--shards 5] [--seeds 3]
          [--epochs 4] [--tiny]
Result:   tables, ``contraction.json`` in OUT, and a last line of JSON.

A teacher is trained, its answers are stored, and a base of about a million parameters learns from them. ``contract``
makes it a quarter as large, and as much faster as --faster says. Then, each from random weights with as many steps and
by the same recipe: the winner; a network whose four widths are those of the base times one factor, with as many
parameters as the winner, and one with its throughput; a random shape within the same limits, another one for each seed.

How far the proxy can be trusted: Kendall's τ between its cross-entropies and top-1 after the full training, over
--candidates random shapes within the limits, with weights inherited from the base and with random ones. FOLDER holds
webdataset tars (or .tar.gz, unpacked into OUT) with timm's _info.json; the first --shards of the training split are
used. What is finished in OUT is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contraction_tables import described, mean, tables, tau
from benchmarks.machine import describe
from benchmarks.training_runs import (
    CLASSES,
    SIZE,
    Recipe,
    dump,
    first_shards,
    run_dump,
    run_pretrain,
    train_teacher,
    training,
    unpack,
)
from tinyvit_kd.config.contraction import SpaceConfig
from tinyvit_kd.config.load import load_recipe, validate
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import ContractConfig, PretrainConfig
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.inherit import inherit
from tinyvit_kd.contraction.proxy import Proxy, open_proxy
from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.space import neighbours, shape_of
from tinyvit_kd.contraction.throughput import open_clock
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import StateDict, load_model_file
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.stages.contract import contract

BASE = {
    "embed_dims": [32, 64, 128, 192],
    "depths": [2, 2, 2, 1],
    "num_heads": [2, 4, 8, 12],
    "window_sizes": [4, 4, 4, 2],
}
WIDTH_STEP = 16  # and the width of a head
SPACE = {"tiny_vit": {"width_step": WIDTH_STEP, "lowest_widths": [16, 16, 16, 16], "windows": [2, 4]}}
CONTENDERS = ("winner", "uniform", "uniform, as fast", "random")
RESULT = "contraction.json"


@dataclass(frozen=True)
class Bench:
    """What all parts of the benchmark share."""

    options: argparse.Namespace
    shards: Path
    job: Job

    @property
    def out(self) -> Path:
        """The folder of everything."""
        return Path(self.options.out)

    def student(self, spec: ModelSpec, output: Path, seed: int, epochs: int) -> Recipe:
        """A full training from the store, from random weights."""
        return training(self.shards, output, epochs, seed) | {
            "store": {"path": self.out / "store"},
            "student": spec.model_dump(mode="json", exclude_unset=True) | {"drop_path_rate": 0.0},
        }

    def top1(self, shape: Shape, seed: int) -> float:
        """Top-1 after a full training, percent."""
        output = self.out / "trained" / f"{shape.name}-{seed}"
        return run_pretrain(self.student(shape.spec(), output, seed, self.options.epochs), self.job)["top1"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, run, print."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    begin = time.perf_counter()
    shards = first_shards(unpack(options.data, options.out / "shards"), options.shards)
    with start_job("auto", threads=max(1, (os.cpu_count() or 1) - 1)) as job:
        result = run(Bench(options, shards, job))
    result = {"machine": describe(), "seconds": round(time.perf_counter() - begin), **result}
    write_json(options.out / RESULT, result)
    print("\n\n".join(tables(result)))
    print(json.dumps(result))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=5, help="of the training split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--base-epochs", type=int, default=6, help="of the base, from the store")
    parser.add_argument("--epochs", type=int, default=4, help="of a full training")
    parser.add_argument("--candidates", type=int, default=12, help="whose order by the proxy is compared")
    parser.add_argument("--part", type=float, default=0.25, help="of the base's parameters that a student may have")
    parser.add_argument("--faster", type=float, default=1.5, help="times the base's images per second")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=90, help="of a candidate's brief training")
    parser.add_argument("--tiny", action="store_true", help="settings with which it takes two minutes, to rehearse it")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.seeds, options.teacher_epochs, options.base_epochs, options.epochs = 1, 1, 1, 1
        options.candidates, options.rounds, options.steps, options.part = 3, 1, 8, 0.7
        options.faster, options.shards = 1.01, 2
    return options


def run(bench: Bench) -> dict[str, Any]:
    """Teacher, store, base, search, full trainings, and how well the proxy's order agrees with theirs."""
    options, out, job = bench.options, bench.out, bench.job
    teacher = train_teacher(bench.shards, out / "teacher", options.teacher_epochs, job)["top1"]
    views = max(options.epochs, options.base_epochs) // 2 or 1
    run_dump(
        dump(
            {"path": str(bench.shards), "split": "train"},
            out / "teacher",
            {"path": out / "store", "topk": CLASSES, "views": views},
        ),
        job,
    )
    base = shape_of(ModelSpec.model_validate({"tiny_vit": BASE}), CLASSES, SIZE)
    base_top1 = run_pretrain(bench.student(base.spec(), out / "base", 0, options.base_epochs), job)["top1"]
    costs = partial(costs_of, num_classes=CLASSES, image_size=SIZE)
    config = contraction(bench, base, costs(base))
    begin = time.perf_counter()
    contract(config, job)
    search_seconds = time.perf_counter() - begin
    spec = load_recipe(PretrainConfig, Path(config.output) / "winner.yaml").student
    winner = shape_of(ModelSpec.model_validate(spec.model_dump(include=set(ModelSpec.model_fields))), CLASSES, SIZE)
    rates = clocked(bench, config, base)
    uniform = uniform_shapes(base)
    same_size = min(uniform, key=lambda shape: abs(costs(shape).parameters - costs(winner).parameters))
    same_speed = min(uniform, key=lambda shape: abs(rates([shape])[0] - rates([winner])[0]))
    chosen = random_shapes(bench, config, base, costs, rates)
    shapes = {
        "winner": [winner] * options.seeds,
        "uniform": [same_size] * options.seeds,
        "uniform, as fast": [same_speed] * options.seeds,
        "random": [chosen[seed % len(chosen)] for seed in range(options.seeds)],
    }
    top1: dict[str, list[float]] = {name: [] for name in shapes}
    for seed in range(options.seeds):  # in turns, so that an end before the last seed leaves whole rows
        for name, each in shapes.items():
            top1[name].append(round(bench.top1(each[seed], seed), 3))
    orders = proxy_orders(bench, config, base, chosen)
    final = [bench.top1(shape, 0) for shape in chosen]
    return {
        "settings": {
            "base": BASE,
            "space": SPACE,
            "limits": config.limits.model_dump(exclude_none=True),
            **{name: value for name, value in vars(options).items() if name not in ("data", "out")},
            "stored_views": views,
        },
        "teacher_top1": teacher,
        "base_top1": base_top1,
        "base_parameters": costs(base).parameters,
        "search_seconds": round(search_seconds),
        "shapes": {
            name: [described(shape, costs(shape), rates([shape])[0]) for shape in dict.fromkeys(each)]
            for name, each in shapes.items()
        },
        "top1": top1,
        "candidates": [
            {"shape": shape.name, "top1": round(score, 3)}
            | {name: round(each[number], 4) for name, each in orders.items()}
            for number, (shape, score) in enumerate(zip(chosen, final, strict=True))
        ],
        "winner_top1": mean(top1["winner"]),
        "uniform_top1": mean(top1["uniform"]),
        "uniform_as_fast_top1": mean(top1["uniform, as fast"]),
        "random_top1": mean(top1["random"]),
        **{f"kendall_tau_{name}": tau(each, final) for name, each in orders.items()},
    }


def contraction(bench: Bench, base: Shape, costs: Costs) -> ContractConfig:
    """The recipe of the search, with a limit of throughput that follows from the base's, as it is measured here."""
    options, out = bench.options, bench.out
    recipe = bench.student(base.spec(), out / "contract", 0, options.base_epochs) | {
        "stage": "contract",
        "student": {"init_from": out / "base"},
        "space": SPACE,
        "limits": {"parameters": options.part * costs.parameters},
        "search": {"rounds": options.rounds, "bases": 2, "candidates": 10},
        "throughput": {"batch_size": 64, "turns": 5},
        "proxy": {"steps": options.steps, "rungs": 3, "finalists": 2, "seeds": 2, "held_out": 0.2},
    }
    config = validate(ContractConfig, recipe, "benchmark")
    rate = clocked(bench, config, base)([base])[0]
    recipe["limits"] |= {"images_per_second": round(options.faster * rate)}
    return validate(ContractConfig, recipe, "benchmark")


def clocked(bench: Bench, config: ContractConfig, base: Shape) -> Callable[[Sequence[Shape]], list[float]]:
    """Measures images per second of shapes, all in turns with the base."""
    clock = open_clock(config, bench.job, CLASSES, SIZE, bench.out / "timings")

    def rates(shapes: Sequence[Shape]) -> list[float]:
        timings = clock.measure(base, shapes)
        return [timings[shape.name].images_per_second for shape in shapes]

    return rates


def uniform_shapes(base: Shape) -> list[Shape]:
    """The base with its four widths times one factor, in whole heads; depths and all else stay."""
    widths, largest = base["widths"], base["widths"][-1]
    heads = (
        tuple(max(1, round(width * size / largest / WIDTH_STEP)) for width in widths)
        for size in range(WIDTH_STEP, largest + 1)
    )
    return [base.with_factor("widths", tuple(WIDTH_STEP * each for each in found)) for found in dict.fromkeys(heads)]


def random_shapes(
    bench: Bench,
    config: ContractConfig,
    base: Shape,
    costs: Callable[[Shape], Costs],
    rates: Callable[[Sequence[Shape]], list[float]],
) -> list[Shape]:
    """Distinct shapes at the ends of chains of random moves: each the first of its chain that keeps to the limits."""
    found: dict[str, Shape] = {}
    for shape in _ends_of_chains(base, config.space, float(config.limits.parameters or 0), costs):
        if shape.name not in found and rates([shape])[0] >= float(config.limits.images_per_second or 0):
            found[shape.name] = shape
        if len(found) == bench.options.candidates:
            break
    return list(found.values())


def _ends_of_chains(
    base: Shape, space: SpaceConfig, parameters: float, costs: Callable[[Shape], Costs]
) -> Iterator[Shape]:
    draw = random.Random(0)
    for _ in range(1000):
        shape = base
        while costs(shape).parameters > parameters and (nearby := neighbours(shape, space)):
            shape = draw.choice(nearby).shape
        if costs(shape).parameters <= parameters:
            yield shape


def proxy_orders(bench: Bench, config: ContractConfig, base: Shape, shapes: Sequence[Shape]) -> dict[str, list[float]]:
    """Cross-entropy of each shape after the brief training, with weights of the base and with random ones."""
    proxy = open_proxy(config, bench.job)
    state = load_model_file(bench.out / "base" / "model.safetensors")[0]
    return {
        "inherited": [_brief(proxy, config, shape, inherit(state, base, shape)) for shape in shapes],
        "fresh": [_brief(proxy, config, shape, None) for shape in shapes],
    }


def _brief(proxy: Proxy, config: ContractConfig, shape: Shape, state: StateDict | None) -> float:
    network = build_network(shape.spec(), CLASSES, SIZE, seed=0)
    if state is not None:
        network.load_state_dict(state)
    proxy.train(network, 0, config.proxy.steps, seed=0)
    score, _ = proxy.score(network, config.proxy.steps, seed=0)
    return score.cross_entropy


if __name__ == "__main__":
    main()
