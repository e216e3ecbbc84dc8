"""Which operators of torch a piece of work runs: what a GPU would launch, and what its host would wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero")
"""On a GPU the host waits for these."""


def launches(work: Callable[[], object]) -> Counter[str]:
    """How often each operator was called, without what only makes views or allocates: about what a GPU launches.

    Backward passes are counted, too; an operator on a list of tensors counts once.
    """
    calls = _Calls()
    with calls:
        work()
    return calls.counts


def waits(work: Callable[[], object], besides: str = "") -> list[str]:
    """The operators among ``WAITS`` that torch's profiler saw.

    Args:
        besides: an operator inside of which they do not count, since its form for GPUs is another.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    events = list(profile.events() or ())
    assert any(event.name.startswith("aten::") for event in events), "the profiler saw nothing"
    seen = {event.name for event in events if besides not in _around(event)}
    return [name for name in WAITS if name in seen]


def _around(event: Any) -> Iterator[str]:
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event.name


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = [each.alias_info for each in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in returned)
        name = func._schema.name.removeprefix("aten::")
        if not is_view and not name.startswith(("empty", "new_empty", "detach", "_unsafe_view")):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
