"""What processes that search together share: results as files, each written whole, once.

Every process makes the same decisions from the same files. So a process may join, die or come back at any moment, and
what is lost is at most the piece of work that it had in hand::

    results/round-01.plan.json               which candidates the round has, with their costs
    results/round-01.w64-….part-2.json       a candidate's score at the end of a part, or why it has none
    results/round-01.w64-….part-2.losses.npy   the cross-entropy of each held-out sample, there before the score is
    weights/round-01.w64-….part-2.safetensors  its weights, as long as they are needed
    claims/                                  which process is at what
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tinyvit_kd.contraction.claims import Claim, Claims, claims_in
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.files import atomic_create, atomic_write, read_small_json, unfinished
from tinyvit_kd.runtime.shared_disks import patiently
from tinyvit_kd.runtime.wording import binary_size

_RESULTS, _WEIGHTS, _CLAIMS = "results", "weights", "claims"
_WEIGHTS_FILE = ".safetensors"
LARGEST = 256 * 2**20  # bytes of a search's JSON files; a plan takes about 1.6 kB per candidate
Values = dict[str, Any]  # of a result, as JSON has them; never empty


class ResultsFolder:
    """The results, weights and claims in a run folder.

    Args:
        folder: the run folder; subfolders are made.
        claims: who does what; None: by files in the folder.
        first: where in a list of work this process begins, as a fraction of its length: those that begin apart meet
            less often.
    """

    def __init__(self, folder: Path, claims: Claims | None = None, first: float = 0.0) -> None:
        self._folder, self._first = folder, first
        self._claims = claims or Claims(folder / _CLAIMS)
        self._result("").parent.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Values | None:
        """A result; None where there is none that can be read."""
        return read_small_json(self._result(name), LARGEST) or None

    def write(self, name: str, values: Values) -> Values:
        """Write a result, unless another process has come first.

        Returns:
            the result that stands.

        Raises:
            ConfigError: it is larger than what is read.
        """
        path = self._result(name)
        content = (json.dumps(values, indent=2) + "\n").encode()
        if len(content) > LARGEST:
            raise ConfigError(
                "a search has too many candidates for one of its files",
                where=str(path),
                found=binary_size(len(content)),
                expected=f"at most {binary_size(LARGEST)}",
                fix="lower search.bases, raise search.rounds, or take larger steps or fewer factors (space), and set "
                "output to a new folder",
            )
        # Others go on from it, so that it must not be lost when the power is.
        if not patiently(lambda: atomic_create(path, content, fsync=True), str(path)):
            found = self.read(name)
            if found is not None:
                return found
            atomic_write(path, content, fsync=True)  # in place of one that was damaged
        return values

    def losses(self, name: str) -> Path:
        """The file of the losses of a score, sample by sample, which may not be there (see ``sample_losses``)."""
        return self._folder / _RESULTS / f"{name}.losses.npy"

    def weights(self, name: str) -> Path:
        """The file of a candidate's weights, which may not be there."""
        return self._folder / _WEIGHTS / f"{name}{_WEIGHTS_FILE}"

    def remove_weights(self, names: Iterable[str]) -> None:
        """Remove weights that no process needs any more; one that does after all makes them anew."""
        for name in names:
            self.weights(name).unlink(missing_ok=True)

    def claimed(self, name: str) -> AbstractContextManager[bool]:
        """Try to claim something that is no result, as a log, while the context lasts; yields whether it is ours."""
        return self._claims.claimed(name)

    def remove_left(self, are_needed: Callable[[str], bool]) -> None:
        """Remove all weights but those that are needed, by name, and what killed processes left behind."""
        folder = self.weights("").parent
        names = sorted(path.name.removesuffix(_WEIGHTS_FILE) for path in folder.glob(f"*{_WEIGHTS_FILE}"))
        self.remove_weights(name for name in names if not are_needed(name))
        for path in (*unfinished(folder), *unfinished(self._folder / _RESULTS)):
            if self._claims.is_left(path):
                path.unlink(missing_ok=True)
        self._claims.remove_left()

    def at_work(self, names: Sequence[str]) -> str:
        """Who is at the first of these results that somebody is known to be at, and at which; else nothing."""
        held = ((self._claims.holder(name), name) for name in names)
        return next((f"{holder}: {name}" for holder, name in held if holder is not None), "")

    def complete(
        self, names: Sequence[str], make: Callable[[str], Values], wait: Callable[[Sequence[str]], None]
    ) -> list[Values]:
        """All of these results: those that are missing are made, here or by other processes.

        Args:
            make: makes a result that no other process is making.
            wait: called with the names that are left while other processes make them; returns after a moment.

        Returns:
            them, in the given order.
        """
        found: dict[str, Values] = {}
        first = int(self._first * len(names))
        left = [*names[first:], *names[:first]]
        while left:
            for name in left:
                values = self.read(name) or self._made(name, make)
                if values is not None:
                    found[name] = values
            before, left = left, [name for name in left if name not in found]
            if left and len(left) == len(before):
                wait(left)
                self._look_anew()
        return [found[name] for name in names]

    def _made(self, name: str, make: Callable[[str], Values]) -> Values | None:
        with self._claims.claimed(name) as is_ours:
            if not is_ours:
                return None
            # Another process may have finished it between a look for the result and the claim.
            self._look_anew()
            return self.read(name) or self.write(name, make(name))

    def _look_anew(self) -> None:
        """Make NFS forget, by listing the folder, which files were not there."""
        folder = self._folder / _RESULTS
        patiently(lambda: os.listdir(folder), str(folder))

    def _result(self, name: str) -> Path:
        return self._folder / _RESULTS / f"{name}.json"


def results_in(folder: Path) -> list[str]:
    """Names of the results in a run folder, which need not be there."""
    return sorted(path.stem for path in (folder / _RESULTS).glob("*.json"))


def read_result(folder: Path, name: str) -> Values:
    """A result in a run folder; empty where there is none that can be read."""
    return read_small_json(folder / _RESULTS / f"{name}.json", LARGEST)


def all_claims(folder: Path, now: float) -> list[Claim]:
    """The claims in a run folder, which need not be there.

    Args:
        now: Unix time, seconds.
    """
    return claims_in(folder / _CLAIMS, now)
