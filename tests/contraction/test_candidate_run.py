"""A candidate is a student like the base but for its shape, and its weights are a model file while they are needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.contraction.fake_trainer import CLASSES, FakeTrainer, micro_config, shape_of_micro, shared_search
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction import candidate_run
from tinyvit_kd.contraction.candidate_run import drop_path_rate_of, score_of, student_of
from tinyvit_kd.contraction.records import Candidate
from tinyvit_kd.contraction.sample_losses import read_losses, write_losses
from tinyvit_kd.contraction.search import Task
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.modelfile import read_card
from tinyvit_kd.models.student import open_model


@pytest.mark.parametrize(
    ("spec", "rate"),
    [
        ({"name": "tiny_vit_21m_224"}, 0.2),
        ({"name": "tiny_vit_5m_224"}, 0.0),
        ({"name": "tiny_vit_5m_224", "drop_path_rate": 0.05}, 0.05),
        ({"name": "deit_tiny_patch16_224", "kwargs": {"drop_path_rate": 0.1}}, 0.1),
    ],
)
def test_all_candidates_have_the_stochastic_depth_of_the_base(spec: dict[str, object], rate: float) -> None:
    assert drop_path_rate_of(ModelSpec.model_validate(spec), 10, 224) == rate


def test_a_student_says_no_more_than_its_shape_and_the_settings_of_the_base() -> None:
    student = student_of(shape_of_micro(), micro_config(), 0.1)
    assert student.model_dump(exclude_unset=True).keys() == {"tiny_vit", "drop_path_rate"}


def test_the_weights_of_a_part_are_a_model_file_that_says_what_it_is(tmp_path: Path) -> None:
    run = shared_search(tmp_path, micro_config(), FakeTrainer()).run
    task = Task(0, Candidate(shape_of_micro()), 0)
    run.make(task)
    path = run.folder.weights(task.name)
    card = read_card(path)
    assert card is not None
    assert (card.num_classes, card.step) == (CLASSES, 4)
    network, _ = open_model(path)
    state = run.weights(task)
    assert all(value.equal(state[name]) for name, value in network.state_dict().items())


def test_weights_that_a_power_loss_has_damaged_are_made_anew(tmp_path: Path) -> None:
    run = shared_search(tmp_path, micro_config(), FakeTrainer()).run
    task = Task(0, Candidate(shape_of_micro()), 0)
    run.make(task)
    before = {name: value.clone() for name, value in run.weights(task).items()}  # the file is mapped into memory
    run.folder.weights(task.name).write_bytes(b"")
    again = run.weights(task)
    assert all(value.equal(again[name]) for name, value in before.items())


@pytest.mark.parametrize("is_scored", [True, False])
def test_losses_beside_a_score_stay_and_those_of_a_process_that_died_before_it_do_not(
    is_scored: bool, tmp_path: Path
) -> None:
    run = shared_search(tmp_path, micro_config(), FakeTrainer()).run
    task = Task(0, Candidate(shape_of_micro()), 0)
    values = run.make(task)
    if is_scored:
        run.folder.write(task.name, values)
    earlier = np.zeros(100, np.float32)
    write_losses(run.folder.losses(task.name), earlier)
    run.make(task)
    found = read_losses(run.folder.losses(task.name))
    assert found is not None
    assert np.array_equal(found, earlier) == is_scored


def test_weights_that_a_process_ahead_removes_at_once_are_there_for_who_made_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shared_search(tmp_path, micro_config(), FakeTrainer()).run
    task = Task(0, Candidate(shape_of_micro()), 1)
    run.make(task)
    before = {name: value.clone() for name, value in run.weights(task).items()}
    shutil.rmtree(tmp_path / "weights")
    monkeypatch.setattr(candidate_run, "save_model", lambda *_: None)
    again = run.weights(task)
    assert again.keys() == before.keys()
    assert all(value.equal(again[name]) for name, value in before.items())


@pytest.mark.parametrize("values", [{"scores": {}}, {"score": {"cross_entropy": 1.0}}, {"score": "good"}])
def test_a_file_without_a_score_is_refused_by_name(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"does not hold what a search writes.*results/piece\.json.*remove it"):
        score_of(values, "results/piece.json")


def test_each_round_trains_on_samples_of_its_own_which_are_the_same_for_all_its_candidates(tmp_path: Path) -> None:
    run = shared_search(tmp_path, micro_config(), FakeTrainer()).run
    shapes = [shape_of_micro(), shape_of_micro().with_factor("depths", (1, 1, 1, 1))]
    seeds = {
        (number, run._order_seed(Task(number, Candidate(shape), part)))
        for number in range(4)
        for shape in shapes
        for part in range(2)
    }
    assert len(seeds) == len({seed for _, seed in seeds}) == 4
    assert run._order_seed(Task(1, Candidate(shapes[0]), 0, seed=1)) not in {seed for _, seed in seeds}
