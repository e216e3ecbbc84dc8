"""Does a run on the GPU that is killed go on to the same bits as one that is not?

Command:  python -m benchmarks.gpu.resume [--device cuda] [--results FILE] [--tiny]
Result:   a table, and a last line of JSON; exit code 1 if a run does not end, or if a deterministic one differs.

Images are drawn, a teacher with random weights dumps them on the device, and ``tinyvit-kd pretrain`` runs as a command:
once undisturbed, and once killed with SIGKILL behind its first checkpoint and started again. The model files are
compared bit for bit. Where they differ, the undisturbed run is repeated: if that differs, too, it is the device's
kernels that add in another order each time, and no fault of resuming.

All of it with ``runtime.deterministic`` where recipes have that field, on a GPU also compiled, as recipes are by
default, and then without it; on the CPU, where that field changes nothing, only once.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fault_injection.compare import weight_differences
from benchmarks.fault_injection.processes import Running
from benchmarks.gpu.json_files import write_json
from benchmarks.run_differences import differences
from benchmarks.tiny_world import NETWORK, TRAINING, VIEWS, draw_shards, dump_recipe, make_teacher, pretrain_recipe
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.synthetic import DRAWN_CLASSES
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints

DETERMINISTIC = "deterministic"  # the field of ``runtime``
PLAIN, COMPILED = "plain", "deterministic-compiled"
PATIENCE = 240.0  # seconds that one run may take
ATTEMPTS = 3  # at killing a run before it has finished
Case = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Shards, a store and recipes of runs.

    Attributes:
        folder: of all of it.
        device: cuda or cpu.
        tiny: networks and views as in tests, for a CPU; else TinyViT-5M at 224 pixels.
    """

    folder: Path
    device: str
    tiny: bool

    def make(self) -> None:
        """Draw images, and let a teacher with random weights dump two views of each, on the device."""
        shards = draw_shards(self.folder, samples=96 if self.tiny else 320)
        if self.tiny:
            teacher = make_teacher(self.folder)
        else:
            from benchmarks.networks import write_teacher

            name, classes = "deit_tiny_patch16_224", len(DRAWN_CLASSES)
            teacher = write_teacher(self.folder / "teacher", name, classes, 224)
        views = VIEWS if self.tiny else {"size": 224}
        recipe = dump_recipe(shards, teacher, self.folder / "store", views=views, runtime=self._runtime)
        with start_job(self.device, threads=1) as job:
            dump_logits(validate(DumpConfig, recipe, "benchmark"), job)

    @property
    def _runtime(self) -> Case:
        return {"device": self.device, "workers": 0 if self.tiny else 4, "threads": 1, "compile": False}

    def command(self, output: Path, changes: Case) -> list[str]:
        """A run of stage two: 48 steps, with a checkpoint after every fourth.

        Args:
            output: its folder.
            changes: of the recipe's section ``runtime``.
        """
        student: Case = {"tiny_vit": NETWORK} if self.tiny else {"name": "tiny_vit_5m_224"}
        schedule = TRAINING["schedule"] | ({"epochs": 8} if self.tiny else {"epochs": 12, "global_batch_size": 80})
        recipe = pretrain_recipe(
            self.folder / "shards",
            self.folder / "store",
            output,
            student=student | {"drop_path_rate": 0.1},
            schedule=schedule,
            optim=TRAINING["optim"] if self.tiny else {"base_lr": 1e-3, "warmup_lr": 1e-5, "min_lr": 1e-5},
            train={"log_every": 4, "checkpoint_every": 4, "ema_decay": 0.9},
            runtime=self._runtime | changes,
        )
        path = output.with_name(f"{output.name}.yaml")
        path.write_text(json.dumps(recipe))  # JSON is YAML
        return [sys.executable, "-m", "tinyvit_kd", "pretrain", str(path)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, compare, print, exit."""
    options = _parser().parse_args(arguments)
    result: Case = {"device": options.device, "deterministic_field": has_deterministic_field(), "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), options.device, options.tiny)
        world.make()
        for name, case in cases(world):
            result["cases"][name] = case
            if options.results is not None:
                write_json(options.results, result)
    print("| | killed at step | the same bits | weights apart | run again, the same bits |\n|---|---|---|---|---|")
    for name, case in result["cases"].items():
        cells = (case[key] for key in ("killed_at", "equal", "weights_apart", "equal_without_a_kill"))
        print(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    print(json.dumps(result))
    sys.exit(0 if is_right(result["cases"]) else 1)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    made.add_argument("--results", type=Path, help="a JSON file of the result, renewed with every case")
    made.add_argument("--tiny", action="store_true", help="in small, for a CPU")
    return made


def has_deterministic_field() -> bool:
    """Whether recipes have ``runtime.deterministic``."""
    return DETERMINISTIC in RuntimeConfig.model_fields


def cases(world: World) -> Iterator[tuple[str, Case]]:
    """What comes of a kill, by what was asked for."""
    deterministic, on_a_gpu = has_deterministic_field(), world.device == "cuda"
    if deterministic:
        yield DETERMINISTIC, compare(world, DETERMINISTIC, {DETERMINISTIC: True})
    if deterministic and on_a_gpu:
        yield COMPILED, compare(world, COMPILED, {DETERMINISTIC: True, "compile": True})
    if on_a_gpu or not deterministic:
        yield PLAIN, compare(world, PLAIN, {})


def is_right(found: dict[str, Case]) -> bool:
    """Whether a deterministic run, or one that is the same whenever it is repeated, was the same after a kill."""
    strict = [case for name, case in found.items() if name.startswith(DETERMINISTIC) or case["equal_without_a_kill"]]
    return all(case["equal"] for case in strict)


def compare(world: World, name: str, changes: Case) -> Case:
    """A killed run beside an undisturbed one.

    Args:
        world: that has been made.
        name: of a folder for both.
        changes: of the recipe's section ``runtime``.

    Returns:
        killed_at: the step of the checkpoint that it went on from;
        equal: whether the model files are, bit for bit;
        weights_apart, first_loss, last_loss, largest_loss: how far they are apart (``benchmarks.run_differences``);
        equal_without_a_kill: of a repeated run; not looked at, and true, where even the killed one is equal;
        in_force: the line that a run prints of its GPU, whether it was compiled among it; empty on the CPU.

    Raises:
        RuntimeError: a run fails, or always ends before it is killed.
    """
    folder = world.folder / name
    folder.mkdir()
    whole, again = folder / "whole", folder / "again"
    said = finish(world.command(whole, changes), folder)
    killed, step = killed_run(world, folder, changes)
    equal = not weight_differences(killed, whole)
    if not equal:
        finish(world.command(again, changes), folder)
    apart = differences(killed, whole)
    return {
        "killed_at": step,
        "equal": equal,
        "equal_without_a_kill": equal or not weight_differences(again, whole),
        "in_force": in_force(said),
        "weights_apart": apart.pop("weights"),
        **apart,
    }


def killed_run(world: World, folder: Path, changes: Case) -> tuple[Path, int]:
    """A run that was killed behind its first checkpoint and started again; and the step that it went on from."""
    for attempt in range(ATTEMPTS):
        output = folder / f"killed-{attempt}"
        command = world.command(output, changes)
        running = start(command, folder)
        running.poll(partial(has_checkpoint, output), PATIENCE)
        ended = running.ended
        running.kill_all()
        code = running.wait(PATIENCE)
        if not ended and has_checkpoint(output):
            newest = checkpoints(output / CHECKPOINTS)[0]
            finish(command, folder)
            return output, int(newest.stem.rpartition("-")[2])
        if code != 0:
            raise RuntimeError(f"a run wrote no checkpoint, exit code {code}: {running.printed()[-2000:]}")
    raise RuntimeError(f"{ATTEMPTS} runs had finished before they were killed")


def has_checkpoint(output: Path) -> bool:
    """Whether a run has written one."""
    return bool(checkpoints(output / CHECKPOINTS))


def in_force(said: str) -> str:
    """The line about a GPU in what a run printed (``runtime.device_report``); empty where there is none."""
    return next((line.strip() for line in said.splitlines() if ", channels " in line and ", TF32 " in line), "")


def finish(command: list[str], folder: Path) -> str:
    """Run a command to its end; returns what it printed to stderr."""
    running = start(command, folder)
    code = running.wait(PATIENCE)
    running.kill_all()
    if code != 0:
        raise RuntimeError(f"exit code {code} of {' '.join(command)}: {running.printed()[-2000:]}")
    return running.printed()


def start(command: list[str], folder: Path) -> Running:
    """A command under way, which keeps the environment of this process."""
    mark = secrets.token_hex(8)
    return Running(command, mark, folder / f"{mark}.log", settings={})


if __name__ == "__main__":
    main()
