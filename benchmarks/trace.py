"""What does the device wait for, and what keeps it busy? A trace of ten steps of the training loop.

Command:  python -m benchmarks.trace [--students NAME …] [--batch B] [--steps 10] [--no-compile]
          [--results FILE] [--tiny]
Result:   for each student the largest kernels, the longest gaps between kernels with what the host did meanwhile, and
          counts of a step; a last line of JSON; the trace itself, as STEM-STUDENT.trace.json.gz beside FILE.

``training.loop.fit`` as stage two runs it, with a loader whose batches cost nothing, is traced after steps to warm up.
The profiler slows the host, and so shows longer gaps than there are without it: what launches many small kernels
suffers most. chrome://tracing and ui.perfetto.dev show a trace. On the CPU there are no kernels; its largest operators
are named.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.arguments import cores, parse, student_parser
from benchmarks.cases import Cases, Figures
from benchmarks.contenders import DROP_PATH
from benchmarks.feeding import SyntheticBatches
from benchmarks.networks import student_run, student_state
from benchmarks.trace_analysis import UNRECORDED, Told, analyse, read_events, steps_in
from tinyvit_kd.config.training import DistillLossConfig, RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loop import fit
from tinyvit_kd.training.objectives import DistillObjective

DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"students": ["tiny_vit_5m_224"], "batch": 8, "steps": 3, "warm_up": 1, "workers": 1},
    "cuda": {
        "students": ["tiny_vit_21m_224", "tiny_vit_5m_224"],
        "batch": 256,
        "steps": 10,
        "warm_up": 10,
        "workers": max(1, cores() - 2),
    },
    "tiny": {"students": ["resnet10t"], "batch": 4, "steps": 2, "warm_up": 1, "workers": 1},
}
SHARED = ("classes", "topk", "size", "precision", "compile", "threads")
SETTINGS = ("students", "batch", "steps", "warm_up", "workers", *SHARED)
STEPS = "the steps"  # name of the range in the trace


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, trace, print."""
    options = parse(_parser(), arguments, DEFAULTS)
    with start_job(options.device, options.threads) as job, tempfile.TemporaryDirectory() as folder:
        settings = {name: getattr(options, name) for name in SETTINGS}
        cases = Cases(settings, job.device, options.results, summary)
        for student in options.students:
            path = trace_path(options.results, student, Path(folder))
            found = cases.run(student, partial(measure, student, options, job, path, Path(folder)))
            if found is not None:
                print("\n".join(report(student, found)) + "\n", flush=True)
    cases.end()


def _parser() -> argparse.ArgumentParser:
    made = student_parser(__doc__)
    made.add_argument("--steps", type=int, help="that are traced")
    made.add_argument("--warm-up", type=int, help="steps before them")
    made.add_argument("--workers", type=int, help="loading processes")
    return made


def trace_path(results: Path | None, student: str, folder: Path) -> Path:
    """Where a student's trace goes: beside the results, or into a folder that is removed."""
    beside = folder / "results.json" if results is None else results
    return beside.with_name(f"{beside.stem}-{student}.trace.json.gz")


def measure(student: str, options: argparse.Namespace, job: Job, path: Path, folder: Path) -> Figures:
    """Run and trace the loop, and read the trace."""
    total = options.warm_up + options.steps + 1  # a run's last step writes a checkpoint
    drop_path = DROP_PATH.get(student)
    state = student_state(student, options.classes, options.size, options.batch, job.device, drop_path)
    run = student_run(state, options.batch, job, folder / student, total, options.precision, options.compile)
    maker = SyntheticBatches(options.batch, options.size, options.topk, options.classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    tracing = Tracing(job.device, options.warm_up, options.steps, path)
    runtime, objective = RuntimeConfig(workers=options.workers), DistillObjective(DistillLossConfig())
    with loading(maker, range(total), runtime, job.device) as batches, redirect_stderr(io.StringIO()):
        fit(run, state, tracing.noting(batches), objective, StopRequest())
    kept = {"trace": path.name} if options.results is not None else {}
    kept["code"] = run.compiler.told  # the loop goes on where compiling fails
    return kept | analyse(steps_in(read_events(path), STEPS, options.steps))


class Tracing:
    """Traces some steps: from when the batch behind the warm-up is asked for until the one after the last is.

    Args:
        path: of the trace, .json.gz.
    """

    def __init__(self, device: torch.device, warm_up: int, steps: int, path: Path) -> None:
        self.device, self.warm_up, self.steps, self.path = device, warm_up, steps, path
        on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self.activities = [ProfilerActivity.CPU, *on_gpu]

    def noting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as they come."""
        for _ in range(self.warm_up):
            yield next(batches)
        with profile(activities=self.activities):  # what the first one sets up is none of the steps'
            torch.zeros(1, device=self.device)
        self._synchronize()
        with ExitStack() as stack:
            traced = stack.enter_context(profile(activities=self.activities))
            with record_function(STEPS):
                for _ in range(self.steps):
                    yield next(batches)
                batch = next(batches)  # which is asked for when the last step has been launched
            self._synchronize()
        traced.export_chrome_trace(str(self.path))
        yield batch

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def report(student: str, found: Figures) -> list[str]:
    """A student's trace in lines."""
    on_device = "largest_kernels" in found
    lines = [f"{student}: {found['ms_a_step_on_the_host']:.1f} ms a step on the host"]
    if on_device:
        lines += [
            f"  {found['ms_a_step_on_the_device']:.1f} ms a step on the device, which kernels keep busy for "
            f"{found['device_busy']:.1%} of it",
            f"  a step has {found['kernels_a_step']:.0f} kernels, {found['launches_a_step']:.0f} launches by the host",
        ]
    syncs = ", ".join(f"{number:g} {name}" for name, number in found["synchronisations_a_step"].items())
    lines.append(f"  synchronisations a step: {syncs or 'none'}")
    for name, each in found.get("copies", {}).items():
        lines.append(f"  copies a step: {each['a_step']:g} {name}, {each['mib_a_step']:.1f} MiB")
    what = "kernels" if on_device else "operators"
    lines.append(f"  largest {what}:")
    lines += [_line(each) for each in found[f"largest_{what}"]]
    gaps = found.get("longest_gaps", [])
    return lines + ["  longest gaps between kernels:"] * bool(gaps) + [_gap(each) for each in gaps]


def _line(each: Told) -> str:
    return (
        f"    {each['share']:6.1%}  {each['ms_a_step']:.3f} ms in {each['calls_a_step']:g} calls  {each['name'][:100]}"
    )


def _gap(each: Told) -> str:
    host = ", ".join(f"{name} {time:.0f} µs" for name, time in each["host"].items()) or UNRECORDED
    between = f"between {each['after'][:60]} and {each['before'][:60]}"
    copying = f"; the device copies for {each['copying_us']:.0f} µs" if each["copying_us"] else ""
    return f"    {each['us']:.0f} µs at {each['at_ms']:.1f} ms, {between}; the host: {host}{copying}"


def summary(done: dict[str, Figures]) -> dict[str, Any]:
    """What matters most of each student."""
    names = ("device_busy", "kernels_a_step", "launches_a_step", "synchronisations_a_step", "ms_a_step_on_the_host")
    return {name: {student: found[name] for student, found in done.items() if name in found} for name in names}


if __name__ == "__main__":
    main()
