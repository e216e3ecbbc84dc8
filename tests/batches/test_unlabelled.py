"""Samples without a label among others: they keep their place and have no weight in stage three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import TRAINING, VIEWS
from tests.data.tars import write_tar
from tests.views.images import encoded, sample_image
from tinyvit_kd.batches.labelled_batches import LabelledBatches
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.views.mixing import partners

SAMPLES = 32
WITHOUT = {3, 8, 20}


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_views_that_contain_a_sample_without_a_label_have_no_weight(tmp_path: Path, mixing: dict[str, Any]) -> None:
    image = encoded(sample_image(20, 20))
    members = []
    for number in range(SAMPLES):
        members.append((f"{number:04}.jpg", image))
        if number not in WITHOUT:
            members.append((f"{number:04}.cls", b"1"))
    write_tar(tmp_path / "a.tar", members)
    shards = ShardSet.load(str(tmp_path / "a.tar"))
    spec = ViewSpec.model_validate(VIEWS | mixing)
    plan = StepPlan((SAMPLES,), ScheduleConfig.model_validate(TRAINING["schedule"]), range(4), 0 if mixing else None)
    make = LabelledBatches(SampleViews(shards.reader(), spec, 0), "error", plan)
    seen = 0
    for step in range(plan.steps_per_epoch):
        batch = make(step)
        indexes = plan.samples(step)[2].tolist()
        for row, index in enumerate(indexes):
            involved = {index}
            if batch.mixed is not None and batch.mixed.lam[row] < 1:
                involved.add(int(partners(0, 0, 0, SAMPLES)[index]))
            assert batch.weights[row] == (not involved & WITHOUT)
            seen += 1
    assert seen == SAMPLES
