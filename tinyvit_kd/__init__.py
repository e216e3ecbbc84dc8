"""Knowledge distillation for vision with the teacher taken out of the training loop.

``__all__`` is the Python API, and docs/API.md shows how to use it. Names are imported when they are first used, so
``import tinyvit_kd`` itself is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "EvalViewSpec",
    "LogitStore",
    "Records",
    "Sample",
    "ShardSet",
    "Student",
    "TinyVitKdError",
    "ViewSpec",
    "dense",
    "find_sample",
    "iterate_samples",
    "load_recipe",
    "open_batches",
    "open_shards",
    "open_store",
    "open_student",
    "read_sample",
    "records",
    "teacher_classes",
    "view_grid",
    "view_image",
]

if TYPE_CHECKING:
    from tinyvit_kd.api.images import view_grid, view_image
    from tinyvit_kd.api.records import Records, dense, open_store, records, teacher_classes
    from tinyvit_kd.api.runs import Student, load_recipe, open_batches, open_student
    from tinyvit_kd.api.samples import Sample, find_sample, iterate_samples, open_shards, read_sample
    from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
    from tinyvit_kd.data.shards import ShardSet
    from tinyvit_kd.errors import TinyVitKdError
    from tinyvit_kd.store.store import LogitStore
else:
    # Hidden from type checkers: a module with __getattr__ would seem to them to have every name.
    _MODULES = {
        "api.images": ("view_grid", "view_image"),
        "api.records": ("Records", "dense", "open_store", "records", "teacher_classes"),
        "api.runs": ("Student", "load_recipe", "open_batches", "open_student"),
        "api.samples": ("Sample", "find_sample", "iterate_samples", "open_shards", "read_sample"),
        "config.views": ("EvalViewSpec", "ViewSpec"),
        "data.shards": ("ShardSet",),
        "errors": ("TinyVitKdError",),
        "store.store": ("LogitStore",),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
