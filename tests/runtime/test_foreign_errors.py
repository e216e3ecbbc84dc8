"""Other libraries raise what they are known by here: a release that words an error differently fails these tests."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch._C._distributed_c10d import AllreduceOptions, PrefixStore, ProcessGroupGloo, TCPStore
from torch.utils.data import DataLoader, Dataset

from tests.models.shells import shells
from tests.views.images import encoded, sample_image
from tinyvit_kd.runtime.foreign_errors import (
    error_chain,
    first_line_of,
    is_allocation_refusal,
    is_loader_timeout,
    is_lone_value_refusal,
    is_lost_peer,
    is_other_pickle,
    is_out_of_memory,
    is_raised_in_worker,
    is_truncated_image,
    is_worker_death,
    is_zstd_out_of_memory,
    refused_tensors,
    refused_type,
    refuses_argument,
    refuses_checkpointing,
    shortage_behind,
    system_error_behind,
    what_a_peer_did,
)
from tinyvit_kd.runtime.shared_memory import START_METHOD

LOADER_TEXTS = (is_worker_death, is_loader_timeout, is_raised_in_worker)


@dataclass
class Samples(Dataset[int]):
    """Calls a function for each sample, in a process of the loader."""

    make: Callable[[], int]

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> int:
        return self.make()


@contextmanager
def loading(make: Callable[[], int], timeout: float = 0) -> Iterator[Iterator[Any]]:
    """torch's own loader with one process."""
    loader = DataLoader(
        Samples(make), batch_size=None, num_workers=1, timeout=timeout, multiprocessing_context=START_METHOD
    )
    batches = iter(loader)
    try:
        yield batches
    finally:
        del batches


def kill_itself() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def exit_at_once() -> int:
    os._exit(3)


def close() -> int:
    raise EOFError("of the dataset")


def failure(batches: Iterator[Any]) -> Exception:
    """What the loader raises in place of the next batch."""
    try:
        next(batches)
    except (RuntimeError, EOFError) as error:
        return error.with_traceback(None)  # whose frames would hold the loader
    raise AssertionError("there is a batch")


@pytest.mark.parametrize("make", [kill_itself, exit_at_once])
def test_torch_tells_of_a_loading_process_that_died(make: Callable[[], int]) -> None:
    with loading(make) as batches:
        error = failure(batches)
    assert type(error) is RuntimeError
    assert [knows(error) for knows in LOADER_TEXTS] == [True, False, False]


def test_torch_tells_of_a_killed_loading_process_whatever_the_main_one_does() -> None:
    def do_something_else() -> None:
        with loading(os.getpid) as batches:
            os.kill(next(batches), signal.SIGKILL)
            time.sleep(60)  # which the signal of its end interrupts

    with pytest.raises(RuntimeError) as caught:
        do_something_else()
    assert is_worker_death(caught.value)


def test_torch_tells_of_a_dead_loading_process_though_the_signal_of_its_end_was_lost() -> None:
    handler = signal.getsignal(signal.SIGCHLD)

    def lose_the_signal() -> None:
        with loading(os.getpid, timeout=1) as batches:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.kill(next(batches), signal.SIGKILL)
            list(batches)

    try:
        with pytest.raises(RuntimeError) as caught:
            lose_the_signal()
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert is_worker_death(caught.value)


def test_torch_tells_of_a_loader_whose_time_is_up() -> None:
    reader, writer = os.pipe()
    with loading(lambda: len(os.read(reader, 1)), timeout=1) as batches:
        error = failure(batches)
        os.write(writer, bytes(9))  # else torch waits for its process to end
    os.close(reader)
    os.close(writer)
    assert type(error) is RuntimeError
    assert [knows(error) for knows in LOADER_TEXTS] == [False, True, False]


def test_torch_marks_what_a_loading_process_raised() -> None:
    with loading(close) as batches:
        error = failure(batches)
    assert type(error) is EOFError
    assert [knows(error) for knows in LOADER_TEXTS] == [False, False, True]


def test_a_pipe_that_closes_is_not_taken_for_what_a_loading_process_raised() -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    writer.close()
    with closing(reader), pytest.raises(EOFError) as caught:
        reader.recv()
    assert not is_raised_in_worker(caught.value)


# A process that meets this one in two groups, and then waits until it is told to end.
PEER = """
import sys
from datetime import timedelta
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", int(sys.argv[1]), 2, False)
for name in ("first", "second"):
    group = dist.ProcessGroupGloo(dist.PrefixStore(name, store), 1, 2, timedelta(seconds=60))
    group.barrier().wait()
    globals()[name] = group
sys.stdin.read()
"""


def reduce(group: Any, seconds: float) -> RuntimeError:
    """What gloo raises in place of a sum over two processes."""
    options = AllreduceOptions()
    options.timeout = timedelta(seconds=seconds)
    with pytest.raises(RuntimeError) as caught:
        group.allreduce([torch.zeros(3)], options).wait()
    return caught.value


def test_gloo_tells_of_a_process_that_does_not_answer_and_of_one_that_is_gone() -> None:
    store = TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
    groups: dict[str, Any] = {}  # torch's own stubs do not know what a group can do
    with subprocess.Popen([sys.executable, "-c", PEER, str(store.port)], stdin=subprocess.PIPE) as peer:
        for name in ("first", "second"):
            groups[name] = ProcessGroupGloo(PrefixStore(name, store), 0, 2, timedelta(seconds=60))
            groups[name].barrier().wait()
        errors = [reduce(groups["first"], 0.5), reduce(groups["first"], 0.5)]  # of which the first closes the pair
        peer.kill()
        peer.wait()
        errors.append(reduce(groups["second"], 60))
    assert [is_lost_peer(each) for each in errors] == [True, True, True], errors
    assert not any(".cc" in what_a_peer_did(each) or "typically" in what_a_peer_did(each) for each in errors)
    assert "peer" in what_a_peer_did(errors[-1])
    assert {type(each) for each in errors} == {RuntimeError}, "gloo has errors of its own now: use them, not its texts"


def test_the_store_tells_of_a_process_that_is_gone_or_was_never_there() -> None:
    store = TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
    port, second = store.port, timedelta(seconds=1)
    client = TCPStore("127.0.0.1", port, 2, False, timeout=second)
    with pytest.raises(RuntimeError) as waited:
        client.wait(["never set"], second)
    del store
    with pytest.raises(RuntimeError) as left:
        client.add("counter", 1)
    with pytest.raises(RuntimeError) as absent:
        TCPStore("127.0.0.1", port, 2, False, timeout=second)
    assert [is_lost_peer(each.value) for each in (waited, left, absent)] == [True, True, True]


def test_a_mistake_in_a_shape_is_not_taken_for_a_lost_process() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_lost_peer(caught.value)


# Decodes a wide image with ever more memory to spare; a line for each error says what it is taken for.
SHORT_OF_MEMORY = """
import resource
from io import BytesIO
from PIL import Image
from tinyvit_kd.runtime.foreign_errors import is_out_of_memory
file = BytesIO()
Image.new("RGB", (20_000_000, 1)).save(file, "PNG")
for spare in range(10, 210, 20):
    image = Image.open(BytesIO(file.getvalue()))
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (spare << 20), resource.RLIM_INFINITY))
    try:
        image.load()
    except Exception as error:
        print(type(error).__name__, is_out_of_memory(error))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    del image
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited in Linux's way")
def test_pillow_tells_of_too_little_memory_in_two_ways() -> None:
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == {"MemoryError True", "OSError True"}, done.stdout


# Compresses with so much effort that the tables for it do not fit.
SHORT_OF_TABLES = """
import resource
from numcodecs import zstd
from tinyvit_kd.runtime.foreign_errors import is_zstd_out_of_memory
data = bytes(64 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), resource.RLIM_INFINITY))
try:
    zstd.compress(data, 22)
except Exception as error:
    print(type(error).__name__, is_zstd_out_of_memory(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited in Linux's way")
def test_zstd_tells_of_too_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", SHORT_OF_TABLES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["RuntimeError", "True"], done.stdout


def test_torch_tells_of_memory_that_the_machine_does_not_have() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_allocation_refusal(caught.value)
    assert is_allocation_refusal(MemoryError())
    assert is_allocation_refusal(torch.OutOfMemoryError("CUDA out of memory"))


def test_torch_tells_of_a_batch_norm_with_a_single_value() -> None:
    with pytest.raises(ValueError) as caught:
        torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    assert is_lone_value_refusal(caught.value)
    assert not is_lone_value_refusal(ValueError("a bug"))
    advice = shortage_behind(caught.value)
    assert advice is not None
    assert "freeze_bn_stats" in advice.fix


def test_bytes_that_zstd_cannot_unpack_are_not_taken_for_too_little_memory() -> None:
    from numcodecs import zstd

    with pytest.raises(RuntimeError) as caught:
        zstd.decompress(b"no frame at all")
    assert not is_zstd_out_of_memory(caught.value)


def pillow_error(file: bytes) -> Exception:
    with pytest.raises(OSError) as caught:
        Image.open(BytesIO(file)).load()
    return caught.value


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF"])  # of WebP it says less
def test_pillow_tells_of_a_file_that_is_cut_short(kind: str) -> None:
    whole = encoded(sample_image(48, 40), kind)
    error = pillow_error(whole[: len(whole) * 2 // 3])
    assert is_truncated_image(error)
    assert not is_out_of_memory(error)


def test_a_damaged_file_is_not_taken_for_one_that_is_cut_short() -> None:
    whole = bytearray(encoded(sample_image(48, 40), "PNG"))
    whole[len(whole) // 2] ^= 1
    assert not is_truncated_image(pillow_error(bytes(whole)))
    assert not is_truncated_image(pillow_error(b"no image"))


@pytest.mark.parametrize("name", ["resnet18", "caformer_s18", "hrnet_w18"])
def test_timm_refuses_the_size_of_images_that_a_network_does_not_depend_on(name: str) -> None:
    raised: list[TypeError] = []
    with shells():
        try:
            timm.create_model(name, img_size=64)
        except TypeError as error:
            raised.append(error)
    if not raised:
        pytest.skip("this timm takes the argument without a word")
    assert refuses_argument(raised[0], "img_size")
    assert not refuses_argument(raised[0], "windows")


def test_another_argument_that_timm_refuses_is_not_taken_for_the_size_of_images() -> None:
    with shells(), pytest.raises(TypeError) as caught:
        timm.create_model("deit_tiny_patch16_224", img_size=64, windows=7)
    assert not refuses_argument(caught.value, "img_size")


@pytest.mark.parametrize("name", ["convit_tiny", "inception_resnet_v2", "hrnet_w18_small"])
def test_timm_refuses_to_recompute_activations(name: str) -> None:
    with shells():
        network = timm.create_model(name)
    with pytest.raises(AssertionError) as caught:
        network.set_grad_checkpointing(True)
    assert refuses_checkpointing(caught.value)
    assert not refuses_checkpointing(AssertionError("a bug"))


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __reduce__(self) -> Any:
        return self.function, ()


def refusal(content: object, protocol: int = 2) -> Exception:
    """What torch raises in place of a file's content."""
    file = BytesIO()
    torch.save(content, file, pickle_protocol=protocol)
    file.seek(0)
    with pytest.raises(Exception) as caught:
        torch.load(file, weights_only=True)
    return caught.value


@pytest.mark.parametrize(
    ("content", "name"),
    [(Call(os.getpid), "posix.getpid"), (timm.create_model("resnet10t"), "timm.models.resnet.ResNet"), (len, "len")],
    ids=["a module that is never allowed", "a class", "a built-in function"],
)
def test_torch_names_the_type_that_it_does_not_import(content: object, name: str) -> None:
    error = refusal(content)
    assert (refused_type(error) or "").removeprefix("builtins.") == name  # which torch before 2.7 puts before len
    assert not is_other_pickle(error)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_torch_tells_of_a_protocol_that_it_does_not_read() -> None:
    error = refusal({"a": torch.ones(1)}, protocol=4)
    assert is_other_pickle(error)
    assert refused_type(error) is None


def test_torch_names_the_tensors_that_do_not_fit() -> None:
    wider = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
    with pytest.raises(RuntimeError) as caught:
        nn.Sequential(nn.Linear(3, 2), nn.Identity(), nn.PReLU()).load_state_dict(wider.state_dict())
    norm = [f"1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    shapes = ["0.weight is [4, 3], not [2, 3]", "0.bias is [4], not [2]"]
    assert refused_tensors(caught.value) == (shapes, ["2.weight"], norm)
    assert refused_tensors(RuntimeError("anything else")) is None


def test_a_file_that_is_no_pickle_is_not_taken_for_one_with_code() -> None:
    with pytest.raises(Exception) as caught:
        torch.load(BytesIO(b"no file"), weights_only=True)
    assert refused_type(caught.value) is None


def test_torch_hides_a_full_disk_and_what_the_system_said_is_found(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # as good as a disk that is full
    try:
        with pytest.raises(RuntimeError) as caught, (tmp_path / "state.pt").open("wb") as file:
            torch.save({"weights": torch.zeros(100_000)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "unexpected pos" in first_line_of(caught.value)
    refused = system_error_behind(caught.value)
    assert refused is not None
    assert refused.errno == errno.EFBIG


def test_what_the_system_did_not_refuse_is_not_found() -> None:
    with pytest.raises(AttributeError) as caught:
        torch.save({"code": lambda: 0}, BytesIO())
    assert system_error_behind(caught.value) is None


def test_the_first_line_of_an_error_or_its_type() -> None:
    assert first_line_of(ValueError("one\ntwo")) == "one"
    assert first_line_of(KeyError()) == "KeyError"


def test_a_chain_goes_from_an_error_to_what_it_came_from_or_interrupted() -> None:
    first, second, third = ValueError("first"), OSError("second"), RuntimeError("third")
    second.__context__ = first
    third.__cause__ = second
    assert list(error_chain(third)) == [third, second, first]
