"""One family of errors: they print as one paragraph, and keep their class and all of their fields between processes."""

from __future__ import annotations

import errno
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from tests.raising import FOREIGN, MISMATCH, PARTS, raise_mismatch
from tinyvit_kd import errors
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.loader import loading
from tinyvit_kd.errors import (
    BusyError,
    ConfigError,
    FieldDifference,
    ManifestMismatchError,
    ShardError,
    StalledError,
    StorageUnavailableError,
    StoreError,
    TinyVitKdError,
    TransformError,
    TruncatedImageError,
    WorkerError,
    reason_of,
    said_by,
)
from tinyvit_kd.runtime.parallel import run_parallel

TRUNCATED = TruncatedImageError("the image is cut short")


def family(kind: type[TinyVitKdError] = TinyVitKdError) -> list[type[TinyVitKdError]]:
    """A class and all that are derived from it."""
    return [kind, *(each for derived in kind.__subclasses__() for each in family(derived))]


def one_of(kind: type[TinyVitKdError]) -> TinyVitKdError:
    for error in (MISMATCH, FOREIGN):
        if kind is type(error):
            return error
    return kind("it is wrong") if issubclass(kind, errors.BadImageError) else kind("it is wrong", **PARTS)


@pytest.mark.parametrize("kind", family(), ids=lambda kind: kind.__name__)
def test_every_error_comes_out_of_a_pickle_as_it_went_in(kind: type[TinyVitKdError]) -> None:
    error = one_of(kind)
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert vars(found) == vars(error)
    assert str(found) == str(error)


@pytest.mark.parametrize("kind", family(), ids=lambda kind: kind.__name__)
def test_every_error_prints_as_a_paragraph_of_its_parts(kind: type[TinyVitKdError]) -> None:
    error = one_of(kind)
    if issubclass(kind, errors.BadImageError):
        assert str(error) == f"it is wrong. Found: {kind.kind}."
    else:
        parts = "Where: a place. Found: a thing. Expected: another. To do: mend it."
        assert str(error) == f"{error.what}. {parts}"


@dataclass
class Raising(BatchMaker[int, None]):
    """Raises an error in place of a batch."""

    error: TinyVitKdError

    @property
    def layout(self) -> Layout:
        return Layout(numbers=((1,), np.uint8))

    def fill(self, task: int, arrays: Arrays) -> Any:
        del task, arrays
        raise self.error

    def join(self, tensors: Tensors, extra: Any) -> None:
        del tensors, extra
        raise AssertionError("there is no batch")


@pytest.mark.parametrize("error", [MISMATCH, FOREIGN, TRUNCATED], ids=lambda error: type(error).__name__)
def test_an_error_of_a_loading_process_arrives_with_its_fields(error: TinyVitKdError) -> None:
    settings = RuntimeConfig(workers=1, prefetch=1)
    with (
        pytest.raises(type(error)) as caught,
        loading(Raising(error), range(2), settings, torch.device("cpu")) as batches,
    ):
        next(batches)
    assert vars(caught.value) == vars(error)


def test_an_error_of_a_process_that_works_on_shards_arrives_with_its_fields() -> None:
    with pytest.raises(ManifestMismatchError) as caught:
        list(run_parallel(raise_mismatch, range(1), 2))
    assert vars(caught.value) | {"__notes__": []} == vars(MISMATCH) | {"__notes__": []}


def test_a_caller_adds_where_and_decides_what_to_do() -> None:
    error = TransformError("it fails", where="views.transform", found="a bug", fix="mend it")
    assert error.with_context(where="sample 7") is error
    assert (error.where, error.found, error.fix) == ("views.transform; sample 7", "a bug", "mend it")
    assert error.with_context(fix="leave it out").where == "views.transform; sample 7"
    assert error.fix == "leave it out"
    assert TruncatedImageError("cut short").with_context(where="sample 7").where == "sample 7"


def test_what_another_process_has_done_can_be_retried_and_a_mistake_cannot() -> None:
    retried = {kind for kind in family() if kind.can_be_retried}
    assert retried == {BusyError, WorkerError, StalledError, StorageUnavailableError}
    assert not any(error.can_be_retried for error in (ConfigError("wrong"), ShardError("gone"), StoreError("gone")))


@pytest.mark.parametrize(
    ("difference", "clause"),
    [
        (FieldDifference("seed", 7, 8), "seed is 7 in the store and 8 in this run"),
        (FieldDifference("class_list", "imagenet", None), "class_list is imagenet in the store and None in this run"),
        (FieldDifference("lengths", (1, 2), (1,)), "lengths has 2 entries in the store and 1 in this run"),
        (FieldDifference("lengths", (1, 2, 3), (1, 5, 6)), "lengths[1] is 2 in the store and 5 in this run"),
    ],
    ids=["numbers", "nothing", "lists of other lengths", "lists"],
)
def test_a_difference_is_told_with_both_values(difference: FieldDifference, clause: str) -> None:
    assert difference.describe("this run") == clause


def test_the_reason_of_a_refusal_leaves_the_path_out() -> None:
    assert reason_of(PermissionError(errno.EACCES, "Permission denied", "a.tar")) == "Permission denied"
    assert reason_of(OSError("a text alone")) == "a text alone"
    assert reason_of(BrokenPipeError()) == "BrokenPipeError"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), "No such file or directory"),
        (KeyError("views"), "there is no 'views'"),
        (ValueError("one line\nand another"), "one line"),
        (MemoryError(), "not enough memory"),
        (TypeError(), "TypeError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_another_error_says_is_told_in_plain_words(error: Exception, said: str) -> None:
    assert said_by(error) == said
