"""The native renderer's C code in a process of its own, which may be of another machine."""

from __future__ import annotations

import shlex
import struct
import subprocess
from array import array

import numpy as np
import numpy.typing as npt

_MADE = 1  # of `Outcome` in csrc/views.h
_REFUSED = 2  # from here on: the arguments were wrong, or memory was short


class RemoteRenderer:
    """What ``native.module()`` offers, by a program that was made of ``render_jobs.c``.

    Args:
        command: starts the program, for example under an emulator.
    """

    def __init__(self, command: str) -> None:
        self._program = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def size(self, data: bytes) -> tuple[int, int, int] | None:
        """Width, height, and whether the header is doubtful; None where the file is not usual."""
        if not self._ask([len(data), *[0] * 11], data):
            return None
        width, height, doubtful = struct.unpack("<3q", self._receive(24))
        return width, height, doubtful

    def render(
        self,
        data: bytes,
        size_of_rgb: tuple[int, int],
        numbers: array[float],
        size: int,
        bicubic: bool,
        colour: tuple[int, int, int],
        erase_mode: int,
        noise: npt.NDArray[np.uint8],
        out: npt.NDArray[np.uint8],
        _processor: str,
    ) -> bool:
        """Fill ``out``; False where the reference renderer must do it."""
        noise_bytes = noise.tobytes()
        job = [len(data), *size_of_rgb, len(numbers), size, bicubic, *colour, erase_mode, len(noise_bytes), out.nbytes]
        outcome = self._ask(job, data, numbers.tobytes(), noise_bytes)
        assert outcome < _REFUSED, f"outcome {outcome}"
        if outcome == _MADE:
            out[:] = np.frombuffer(self._receive(out.nbytes), np.uint8).reshape(out.shape)
        return outcome == _MADE

    def processor(self) -> str:
        """The instruction set, which only the program knows."""
        return "remote"

    def supports(self, _processor: str) -> bool:
        """It chooses for itself."""
        return False

    def _ask(self, job: list[int], *parts: bytes) -> int:
        assert self._program.stdin is not None
        self._program.stdin.write(b"".join((struct.pack("<12q", *job), *parts)))
        self._program.stdin.flush()
        outcome: int = struct.unpack("<q", self._receive(8))[0]
        return outcome

    def _receive(self, count: int) -> bytes:
        assert self._program.stdout is not None
        received = self._program.stdout.read(count)
        assert len(received) == count, "the program has ended"
        return received
