"""How busy the driver says that a GPU is, sampled while something else runs."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time
from types import TracebackType

import torch

QUERY = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
EVERY = 200  # milliseconds


class GpuUse:
    """Samples of nvidia-smi's utilisation within a context: the share of time in which some kernel ran.

    Without nvidia-smi, or on the CPU, there are none.
    """

    def __init__(self, device: torch.device) -> None:
        self.samples: list[tuple[float, float]] = []  # Unix time in seconds, and a share
        program = shutil.which("nvidia-smi") if device.type == "cuda" else None
        self._command = (
            None if program is None else [program, f"--id={_identity(device)}", *QUERY, f"--loop-ms={EVERY}"]
        )

    def __enter__(self) -> GpuUse:
        if self._command is not None:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._command is not None:
            self._process.kill()
            self._thread.join()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.note(line)

    def note(self, line: str) -> None:
        """Keep a line that nvidia-smi printed, if it is a number of percent."""
        if line.strip().isdigit():
            self.samples.append((time.time(), int(line) / 100))

    def mean(self, begin: float, end: float) -> float | None:
        """The mean share between two Unix times; None if there is no sample."""
        found = [share for when, share in self.samples if begin <= when <= end]
        return statistics.mean(found) if found else None


def _identity(device: torch.device) -> str:
    """As nvidia-smi knows it, whatever devices are hidden from this process."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return str(device.index or 0) if uuid is None else f"GPU-{uuid}"
