"""Which objects below a URL are a run's. Others may lie there, too: the URL may be that of a whole bucket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.modelfile import MODEL, RAW_MODEL
from tinyvit_kd.runs.fetched_weights import FETCHED
from tinyvit_kd.runs.run_files import ATTEMPTS, LOG, RECIPE, RESULTS, SUMMARY
from tinyvit_kd.runs.run_lease import WRITERS
from tinyvit_kd.runtime.loggers.logged_ids import LOGGED
from tinyvit_kd.runtime.loggers.own_files import METRICS
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS

USUAL = (RECIPE, ATTEMPTS, LOG, METRICS, PROGRESS, LOGGED, FETCHED, MODEL, RAW_MODEL, RESULTS, SUMMARY)
_FURTHER = f"{WRITERS}/files.json"


class RunNames:
    """The names of a run's files at its URL, checkpoints apart. Several threads may call.

    Those of ``USUAL`` are any run's. Further ones, as loggers write, are noted at the URL before they are uploaded.

    Args:
        storage: of the run.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._busy = threading.Lock()
        self._further: set[str] | None = None  # None: not read yet

    def require_free(self) -> None:
        """Check that what a first start would write is not there already, as somebody else's.

        Raises:
            ConfigError: there are objects with a run's names, and neither its recipe nor a trace of its writers.
            OSError: the storage refuses.
        """
        if self._storage.list(WRITERS) or self._storage.info(RECIPE) is not None:
            return
        found = [name for name in USUAL if self._storage.info(name) is not None]
        if found:
            raise ConfigError(
                "objects of somebody else are where the run would write",
                where=self._storage.locate(),
                found=f"{', '.join(found)}, and no {RECIPE}",
                fix="choose another output, such as a folder below this one",
            )

    def read(self) -> list[str]:
        """All names; there need not be a file with each.

        Raises:
            OSError: the storage refuses.
        """
        with self._busy:
            return [*USUAL, *sorted(self._noted())]

    def note(self, names: Iterable[str]) -> None:
        """Note names of files that are about to be uploaded.

        Raises:
            OSError: the storage refuses.
        """
        with self._busy:
            noted = self._noted()
            further = noted | set(names) - set(USUAL)
            if further != noted:
                self._storage.write(_FURTHER, (json.dumps(sorted(further)) + "\n").encode())
                self._further = further

    def _noted(self) -> set[str]:
        if self._further is None:
            try:
                found = json.loads(self._storage.read(_FURTHER))
            except (FileNotFoundError, ValueError):
                found = []
            listed = found if isinstance(found, list) else []
            self._further = {name for name in listed if isinstance(name, str) and _may_be_a_file(name)}
        return self._further


def _may_be_a_file(name: str) -> bool:
    """Whether a name is one within the run's folder, and none of those that others look after."""
    parts = name.split("/")
    return parts[0] not in (CHECKPOINTS, WRITERS) and not any(part.startswith(".") or not part for part in parts)
