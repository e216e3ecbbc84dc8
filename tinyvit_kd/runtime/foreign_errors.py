"""What other libraries raise, told apart in one place.

Where a library gives its error neither a class nor an attribute of its own, its text is all there is. Such texts are
matched here and nowhere else, each by one function. ``tests/runtime/test_foreign_errors.py`` makes the libraries raise
them, so that a release with other words fails a test, not a run. The versions named are those in which a text was read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pickle import UnpicklingError

from tinyvit_kd.errors import FEWER_PROCESSES, LESS_MEMORY, ConfigError, TinyVitKdError

_LOST_PEER = re.compile(
    "Connection (closed|reset) by peer|Connection refused|Broken pipe|Timed out waiting|gloo|NCCL"
    "|Application timeout caused pair closure"
)
_REFUSED_TYPE = re.compile(r"GLOBAL (\S+?) (was not an allowed global|whose module \S+ is blocked)")
_OTHER_SHAPE = re.compile(r"size mismatch for (\S+): .*?torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)")
_QUOTED = re.compile(r'"([^"]*)"')
_RAISED_IN_WORKER = re.compile(r"Caught \S+ in DataLoader worker process \d+\.")


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and the ones that it came from or that it interrupted, the latest first."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def first_line_of(error: BaseException) -> str:
    """What a library says of its error, in one line; the error's type where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


def is_worker_death(error: BaseException) -> bool:
    """Whether torch says that a ``DataLoader`` worker was killed or ended by itself.

    torch 2.15 raises a bare RuntimeError: from the handler of SIGCHLD ("DataLoader worker (pid 7) is killed by signal",
    ``torch/csrc/DataLoader.cpp``), or when it looks while it waits ("DataLoader worker (pid(s) 7) exited unexpectedly",
    ``torch/utils/data/dataloader.py``).
    """
    return "DataLoader worker (pid" in str(error)


def is_loader_timeout(error: BaseException) -> bool:
    """Whether no batch came within the ``timeout`` of a ``DataLoader`` whose workers are alive.

    torch 2.15 raises a bare RuntimeError ("DataLoader timed out after 5 seconds", ``torch/utils/data/dataloader.py``).
    """
    return "DataLoader timed out" in str(error)


def is_raised_in_worker(error: BaseException) -> bool:
    """Whether an error was raised by the dataset in a ``DataLoader`` worker, and handed over by torch.

    torch 2.15 raises it again in the main process, of the same type, with the traceback in its text ("Caught EOFError
    in DataLoader worker process 0.", ``torch/_utils.py``). One without that comes from the pipe between the two.
    """
    return _RAISED_IN_WORKER.match(str(error)) is not None


def is_lost_peer(error: BaseException) -> bool:
    """Whether ``torch.distributed`` says that another process is gone, or did not answer in time.

    The store and NCCL raise a ``DistError``. gloo, as of torch 2.15, raises a bare RuntimeError from its C++ code: from
    ``gloo/transport/tcp/pair.cc`` where the connection is lost, and from ``unbound_buffer.cc`` where time runs out.
    """
    from torch.distributed import DistError  # here, since decoding needs this file and must not load torch

    return isinstance(error, DistError) or _LOST_PEER.search(first_line_of(error)) is not None


def is_closed_connection(error: BaseException) -> bool:
    """Whether torch's store has lost the connection to its server, which it does not make anew."""
    from torch.distributed import DistNetworkError

    return isinstance(error, DistNetworkError)


def what_a_peer_did(error: BaseException) -> str:
    """What ``torch.distributed`` says of a lost process, without the line of C++ before it and the advice behind.

    gloo, as of torch 2.15, says "[…/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:48284: Connection reset by
    peer. This is typically caused by …".
    """
    return re.sub(r"^\[\S+:\d+\] ", "", first_line_of(error)).partition(". This is typically")[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an image could not be decoded for want of memory, which says nothing of the image.

    Pillow 13 raises MemoryError for the pixels, and an OSError for what a decoder needs ("out of memory when reading
    image file", ``_get_oserror`` of ``PIL/ImageFile.py``).
    """
    return isinstance(error, MemoryError) or "out of memory" in str(error)


def is_zstd_out_of_memory(error: BaseException) -> bool:
    """Whether zstd could not unpack for want of memory, which says nothing of what it was to unpack.

    numcodecs 0.16 raises a bare RuntimeError with zstd's own words ("Allocation error : not enough memory",
    ``ZSTD_getErrorString`` of ``lib/common/error_private.c``).
    """
    return "not enough memory" in str(error)


def is_truncated_image(error: BaseException) -> bool:
    """Whether an image's file ends too early.

    Pillow 13 raises EOFError, or an OSError that says so ("image file is truncated (12 bytes not processed)",
    "Truncated File Read", ``PIL/ImageFile.py``); a few readers raise a SyntaxError or ValueError with that word.
    """
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


def ignore_stride_warning() -> None:
    """Leave out a warning about the layout of gradients, which is no error and which no user can act on.

    torch 2.15 warns once in the backward pass of each process ("Grad strides do not match bucket view strides",
    ``torch/csrc/distributed/c10d/reducer.cpp``).
    """
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides", category=UserWarning)


def refuses_argument(error: BaseException, name: str) -> bool:
    """Whether a network has no such argument.

    timm 1.0 raises TypeError: Python's own ("got an unexpected keyword argument 'img_size'"), or one of its own where a
    class looks for itself ("got unexpected keyword argument(s): ['img_size']", as in ``timm/models/metaformer.py``).
    """
    return isinstance(error, TypeError) and "unexpected keyword argument" in str(error) and f"'{name}'" in str(error)


def refuses_checkpointing(error: BaseException) -> bool:
    """Whether a network cannot recompute its activations in the backward pass.

    timm 1.0 raises AssertionError from ``set_grad_checkpointing`` ("gradient checkpointing not supported").
    """
    return isinstance(error, AssertionError) and "checkpointing not supported" in str(error)


def refused_type(error: BaseException) -> str | None:
    """The type or function in a file that ``torch.load`` refused to import, as ``module.name``; None where it is
    another error.

    torch 2.15 raises an UnpicklingError of many lines ("Unsupported global: GLOBAL a.B was not an allowed global by
    default", "unsupported GLOBAL posix.system whose module posix is blocked", ``torch/_weights_only_unpickler.py``).
    """
    found = _REFUSED_TYPE.search(str(error)) if isinstance(error, UnpicklingError) else None
    return None if found is None else found[1]


def refused_tensors(error: BaseException) -> tuple[list[str], list[str], list[str]] | None:
    """The tensors for which a network refused weights; None where it is another error.

    Returns:
        what is said of each of another shape ("a is [4, 40], not [5, 40]"), names that are missing, and names that are
        too many.

    torch 2.14 raises a bare RuntimeError of many lines ("Error(s) in loading state_dict for ResNet:", ``Missing key(s)
    in state_dict: "a", "b". ``, "size mismatch for a: copying a param with shape torch.Size([4]) from checkpoint, the
    shape in current model is torch.Size([5]).", ``load_state_dict`` of ``torch/nn/modules/module.py``).
    """
    text = str(error)
    if not isinstance(error, RuntimeError) or not text.startswith("Error(s) in loading state_dict"):
        return None
    shapes = [f"{name} is {found}, not {own}" for name, found, own in _OTHER_SHAPE.findall(text)]
    missing, unexpected = (
        [name for names in re.findall(rf"{kind} key\(s\) in state_dict: (.*)", text) for name in _QUOTED.findall(names)]
        for kind in ("Missing", "Unexpected")
    )
    return shapes, missing, unexpected


def is_other_pickle(error: BaseException) -> bool:
    """Whether a file was pickled in a protocol that ``torch.load`` reads only where it may run what is in it.

    torch 2.15 raises an UnpicklingError ("Unsupported operand 149", ``torch/_weights_only_unpickler.py``) for whatever
    protocols 3 and later have in addition.
    """
    return isinstance(error, UnpicklingError) and "Unsupported operand" in str(error)


def is_thread_refusal(error: BaseException) -> bool:
    """Whether the system refused to start a thread.

    Python 3.11 raises a bare RuntimeError ("can't start new thread", ``Modules/_threadmodule.c``).
    """
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def is_allocation_refusal(error: BaseException) -> bool:
    """Whether memory could not be had, of the machine or of a device.

    Python raises MemoryError. torch 2.15 raises OutOfMemoryError for a device, and a bare RuntimeError for the machine
    ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", ``c10/core/impl/alloc_cpu.cpp``).
    """
    by_class = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return by_class or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def is_lone_value_refusal(error: BaseException) -> bool:
    """Whether a batch norm in training was given one value per channel, which has no deviation.

    torch 2.15 raises ValueError ("Expected more than 1 value per channel when training, got input size
    torch.Size([1, 16, 1, 1])", ``_verify_batch_size`` of ``torch/nn/functional.py``).
    """
    return isinstance(error, ValueError) and "more than 1 value per channel" in str(error)


def shortage_behind(error: BaseException) -> TinyVitKdError | None:
    """What a machine was short of, or a batch norm of values, as one of our errors; None for any other error."""
    if is_lone_value_refusal(error):
        return TinyVitKdError(
            "a batch norm cannot learn from a single value per channel",
            where="schedule.global_batch_size, schedule.micro_batch_size",
            found=f"{first_line_of(error).partition(', got ')[2] or 'one value'} before the layer",
            expected="2 or more views in each process's micro-batch, or views that are not scaled down to one pixel",
            fix="raise the batch size, or set train.freeze_bn_stats: true, which keeps the statistics as they are",
        )
    if is_thread_refusal(error):
        return TinyVitKdError(
            "the system refuses to start another thread or process", found="can't start new thread", fix=FEWER_PROCESSES
        )
    if is_allocation_refusal(error):
        return TinyVitKdError("there is not enough memory", found=first_line_of(error), fix=LESS_MEMORY)
    return None


def determinism_refused(error: BaseException) -> ConfigError | None:
    """An operator that has no deterministic form on this device, as one of our errors; None for any other error.

    torch 2.15 raises a bare RuntimeError ("adaptive_avg_pool2d_backward_cuda does not have a deterministic
    implementation, but you set 'torch.use_deterministic_algorithms(True)'", ``aten/src/ATen/Context.cpp``).
    """
    operator, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not found or not isinstance(error, RuntimeError):
        return None
    return ConfigError(
        "an operator of this network does not give the same bits each time",
        where="runtime.deterministic",
        found=operator.splitlines()[-1],
        fix="set it to false: then a run that is killed and goes on may end in other bits; or take another network",
    )


def system_error_behind(error: BaseException) -> OSError | None:
    """What the operating system said where a library hid it behind an error of its own; None where it said nothing.

    torch 2.15 reports a full disk as a wrong position in the file that ``torch.save`` writes ("unexpected pos 64 vs 0",
    RuntimeError, ``caffe2/serialize/inline_container.cc``), with the OSError as its context.
    """
    return next((each for each in error_chain(error) if isinstance(each, OSError)), None)
