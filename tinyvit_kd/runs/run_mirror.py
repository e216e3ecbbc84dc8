"""A run at a URL works in a folder of this machine, and what it writes there is uploaded.

The folder is a copy of what is at the URL, and nothing that counts is in it alone for long: a run goes on from the URL
on any machine. Rank 0 uploads; processes on other machines fetch the checkpoint to continue from.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.errors import (
    BusyError,
    StorageError,
    StorageUnavailableError,
    TinyVitKdError,
    said_by,
)
from tinyvit_kd.models.modelfile import MODEL, RAW_MODEL
from tinyvit_kd.runs.checkpoint_uploads import CheckpointUploads, remote_checkpoints, remote_name
from tinyvit_kd.runs.run_files import RESULTS, SUMMARY
from tinyvit_kd.runs.run_lease import Writer, claim
from tinyvit_kd.runs.run_names import RunNames
from tinyvit_kd.runs.uploads import EVERY, FileUploads, Names, Repeating
from tinyvit_kd.runtime.files import read_small_json, write_json
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.lines import print_line
from tinyvit_kd.runtime.peer_watch import kept_whole
from tinyvit_kd.runtime.shared_disks import locks_are_used
from tinyvit_kd.runtime.signals import Preempted, StopRequest, finishing_first
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.copies import copy_file
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS, checkpoints

_STATE = ".mirror.json"  # whose copy a folder is, and which writer's
_LAST = (MODEL, RAW_MODEL, RESULTS, SUMMARY)  # what makes a run a finished one, in the order in which it is uploaded
_FILES = "files"
_NOT_OURS = ("wandb", "mlruns")  # folders of loggers that have servers for their files


class RunMirror(AbstractContextManager["RunMirror"]):
    """Rank 0's side of a run at a URL.

    Args:
        storage: of the run.
        folder: of this machine, which no other process writes to.
        keep: checkpoints to keep.
        runtime: how long a storage may refuse (``data_timeout``).
        every: seconds between two uploads of small files.
    """

    def __init__(self, storage: Storage, folder: Path, keep: int, runtime: RuntimeConfig, every: float = EVERY) -> None:
        self._storage, self._folder, self._keep, self._every = storage, folder, keep, every
        self._patience = runtime.data_timeout
        self._failing_since: dict[str, float] = {}  # by what is uploaded: small files may come through, and large not
        self._failure: Exception | None = None
        self._closing = False
        self._stop: StopRequest | None = None
        self._files = FileUploads(folder, storage, self._growing)
        self._names = RunNames(storage)

    def __enter__(self) -> RunMirror:
        known = read_small_json(self._folder / _STATE)
        with saying(f"opening {self._storage.locate()}"):
            self._names.require_free()
            gone = known.get("writer") if locks_are_used() else None  # else no lock shows that it has ended
            self._lease, before = claim(self._storage, gone)
            self.run = self._lease.writer.run
            try:
                self._take_over(before, known)
            except BaseException:
                with suppress(OSError):
                    self._lease.release()
                raise
        self._repeating = Repeating(self._look, self._every, "uploads")
        self._checkpoints = CheckpointUploads(
            self._storage,
            self._keep,
            self._before_checkpoint,
            self._arrived,
            lambda error: self._note(error, CHECKPOINTS),
        )
        return self

    def _take_over(self, before: Writer | None, known: dict[str, Any]) -> None:
        """Make the folder that of the run, and this process its writer.

        Args:
            before: the writer before.
            known: what the folder says of whose it is.
        """
        make_copy_of(self._folder, self.run)
        if before is None or before.token != known.get("writer") or known.get("run") != self.run:
            self._fetch()
        own = {"url": self._storage.locate(), "run": self.run, "writer": self._lease.writer.token}
        write_json(self._folder / _STATE, own)
        self._lease.remove_earlier()

    def checkpoints(self) -> Iterator[Path]:
        """The checkpoints here and at the URL, the newest first, which are fetched when their turn comes."""
        folder = self._folder / CHECKPOINTS
        there = remote_checkpoints(self._storage)
        for name in sorted({*there, *(path.name for path in checkpoints(folder))}, reverse=True):
            path = folder / name
            was_here = path.is_file()
            if name not in there:
                self._upload_newer(path, there)
            elif not was_here:
                copy_file(self._storage, remote_name(name), path)
            yield path
            if name in there and was_here:  # whoever asks on could not read it; that at the URL may be whole
                self._storage.fetch(remote_name(name), path)
                yield path

    def submit(self, path: Path) -> None:
        """Upload a checkpoint, unless another process is the writer now."""
        if not isinstance(self._failure, BusyError):
            self._checkpoints.submit(path)

    def heed(self, stop: StopRequest) -> None:
        """Ask by this request to stop, once nothing can be uploaded any more."""
        self._stop = stop
        if self._failure is not None:
            stop.ask()

    def _fetch(self) -> None:
        """Fetch the run's files at the URL, checkpoints apart; what nobody has uploaded stays."""
        for name in self._names.read():
            if self._storage.info(name) is not None:
                copy_file(self._storage, name, self._folder / name)
                self._files.note(name)

    def _upload_newer(self, path: Path, there: list[str]) -> None:
        """Upload a checkpoint that an earlier start could not, so that other machines can have it."""
        if not there or path.name > there[0]:
            with saying(f"uploading {path.name}, which an earlier start could not upload"):
                self._checkpoints.upload(path, removes=False)

    def _growing(self) -> Iterator[str]:
        """Files that are uploaded while the run lasts."""
        for path in sorted(self._folder.rglob("*")):
            parts = path.relative_to(self._folder).parts
            hidden = any(part.startswith(".") for part in parts)
            if not hidden and parts[0] not in (CHECKPOINTS, *_NOT_OURS, *_LAST) and path.is_file():
                yield "/".join(parts)

    def _all(self) -> Iterator[str]:
        yield from self._growing()
        yield from _LAST

    def _upload(self, names: Names, everything: bool = True) -> None:
        found = list(names())
        self._names.note(found)
        self._files.upload(everything, lambda: iter(found))

    def _look(self) -> None:
        try:
            self._lease.renew()
            self._upload(self._growing, everything=False)
            self._arrived(_FILES)
        except Exception as error:  # whatever it is, the thread has to live, since it renews the lease
            self._note(error, _FILES)

    def _before_checkpoint(self) -> None:
        self._lease.require()
        self._upload(self._growing)  # the lines of metrics.jsonl up to the checkpoint, among others

    def _arrived(self, what: str = CHECKPOINTS) -> None:
        self._failing_since.pop(what, None)

    def _note(self, error: Exception, what: str) -> bool:
        """Note a failure; returns whether to try again."""
        now = time.monotonic()
        if what not in self._failing_since:
            self._failing_since[what] = now
            print_line(f"cannot write to {self._storage.locate()}: {_said(error)}")
        refused = isinstance(error, BusyError | StorageError) and not isinstance(error, StorageUnavailableError)
        final = refused or now - self._failing_since[what] > self._patience
        if self._failure is None and (final or self._closing):
            self._failure = error
            if self._stop is not None:
                self._stop.ask()
        return self._failure is None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        with finishing_first(), kept_whole(), saying(f"uploading to {self._storage.locate()}"):
            arrived = self._checkpoints.finish()  # the lease is renewed meanwhile
            self._repeating.stop()
            if not isinstance(self._failure, BusyError):  # else it is another's to write
                arrived = self._finish_files() and arrived
        if arrived and not isinstance(self._failure, BusyError):
            return  # what was refused for a while is there now
        if self._failure is None or (error is not None and not isinstance(error, Preempted)):
            return
        if isinstance(self._failure, BusyError):
            raise self._failure from None
        newest = next(iter(checkpoints(self._folder / CHECKPOINTS)), None)
        raise StorageUnavailableError(
            "the run cannot be uploaded",
            where=self._storage.locate(),
            found=_said(self._failure),
            fix=f"{_mend(self._failure)}, and run the same command again on this machine, where {self._folder} has "
            f"{'what it made' if newest is None else f'its last checkpoint, {newest.name}'}; on another one, it goes "
            "on from the last checkpoint that arrived",
        ) from self._failure

    def _finish_files(self) -> bool:
        """Upload the files, and let the next writer in; returns whether that worked."""
        try:
            self._lease.require()
            self._upload(self._all)
            self._lease.release()
        except (OSError, BusyError) as error:
            self._note(error, _FILES)
            return False
        return True


def _said(error: Exception) -> str:
    """What went wrong, without what to do about it."""
    if isinstance(error, TinyVitKdError):
        return f"{error.what}{f' ({error.found})' if error.found else ''}"
    return said_by(error)


def _mend(error: Exception) -> str:
    """What to do about it before the command is run again."""
    fix = error.fix if isinstance(error, TinyVitKdError) else ""
    return fix.partition(", and run the same command again")[0] or "mend that"


def make_copy_of(folder: Path, run: str) -> None:
    """Make a folder that of a run; what is in it of another one, which was at the same URL, is put aside."""
    folder.mkdir(parents=True, exist_ok=True)
    known = read_small_json(folder / _STATE).get("run")
    if known not in (None, run):
        aside = folder.with_name(f"{folder.name}.earlier-{secrets.token_hex(4)}")
        aside.mkdir()
        for path in folder.iterdir():
            if path.name != ".lock":  # which this process holds
                path.rename(aside / path.name)
        print_line(f"{folder} has files of an earlier run at the same URL: they are in {aside} now")
    if known != run:
        write_json(folder / _STATE, {"run": run})
