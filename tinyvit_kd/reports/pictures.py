"""Sheets of a store's samples as pictures that stand in the page itself."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from tinyvit_kd.analysis.samples.replayed_views import ReplayedView
from tinyvit_kd.analysis.samples.sheets import sample_sheet
from tinyvit_kd.analysis.samples.stored_samples import StoredSample
from tinyvit_kd.reports.content import Picture
from tinyvit_kd.runtime.wording import counted

ROWS = 2  # samples of a sheet, so that one fits on a page
_QUALITY = 85  # of JPEG, at which letters are clean


def pictures(samples: Sequence[StoredSample], names: Sequence[str]) -> Iterator[Picture]:
    """Sheets of a few samples each.

    Args:
        names: of the teacher's classes.
    """
    for begin in range(0, len(samples), ROWS):
        part = samples[begin : begin + ROWS]
        sheet = sample_sheet(part, names)
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        title = f"{counted(len(part), 'sample')} with {'its' if len(part) == 1 else 'their'} views"
        described = "; ".join(_described(sample, names) for sample in part)
        yield Picture(title, f"{title}. {described}.", buffer.getvalue(), "image/jpeg", sheet.size)


def _described(sample: StoredSample, names: Sequence[str]) -> str:
    said = ", ".join(_answer(view, names) for view in sample.views)
    return f"Sample {sample.key} with the label {sample.label.name}: the teacher says {said}"


def _answer(view: ReplayedView, names: Sequence[str]) -> str:
    """The teacher's best class of a view, in words."""
    if view.record is None or view.hole:
        return f"nothing of view {view.number}"
    probs = view.record.probs[0]
    best = int(probs.argmax())
    differs = ", which is not the view that is shown" if view.differs else ""
    return f"{names[int(view.record.indices[0, best])]} ({float(probs[best]):.0%}) of view {view.number}{differs}"
