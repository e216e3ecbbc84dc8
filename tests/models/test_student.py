"""Students: architecture, first weights, and the model files that they become."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.networks import TINY, TINY_SPEC, card, saved, tiny
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.load_weights import InitialWeights
from tinyvit_kd.models.modelfile import ModelCard, load_model_file, save_model
from tinyvit_kd.models.student import build_student, open_model, student_spec
from tinyvit_kd.models.teacher import build_teacher

FILE = Path("run")


def test_the_recipe_names_the_network_or_else_the_file_to_start_from() -> None:
    named = StudentConfig(name="tiny_vit_5m_224", init_from=FILE)
    assert student_spec(named, card()).name == "tiny_vit_5m_224"
    assert student_spec(StudentConfig(tiny_vit=TINY, drop_path_rate=0.0), None) == TINY_SPEC
    assert student_spec(StudentConfig(init_from=FILE), card()) == TINY_SPEC


def test_the_recipe_may_change_stochastic_depth_and_arguments_of_the_files_network() -> None:
    spec = student_spec(StudentConfig(init_from=FILE, drop_path_rate=0.3, kwargs={"drop_rate": 0.1}), card())
    assert spec == TINY_SPEC.model_copy(update={"drop_path_rate": 0.3, "kwargs": {"drop_rate": 0.1}})


def test_a_file_that_does_not_say_which_network_it_holds_needs_a_name() -> None:
    with pytest.raises(CheckpointError, match=r"student\.name"):
        student_spec(StudentConfig(init_from=FILE), None)


def test_a_student_without_first_weights_follows_from_its_seed() -> None:
    config = StudentConfig(tiny_vit=TINY)
    first, again, other = (build_student(config, TINY_SPEC, 5, 32, seed, None).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.fc.weight"], other["head.fc.weight"])


def test_a_student_starts_from_a_run_folder(tmp_path: Path) -> None:
    source = saved(tmp_path)
    config = StudentConfig(init_from=tmp_path)
    state, facts = load_model_file(tmp_path)
    student = build_student(config, student_spec(config, facts), 5, 32, 0, InitialWeights(state)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(student(images), source(images))


def test_recomputing_activations_changes_no_gradient() -> None:
    plain, lean = (
        build_student(StudentConfig(tiny_vit=TINY, grad_checkpointing=lean), TINY_SPEC, 5, 32, 0, None)
        for lean in (False, True)
    )
    images = torch.randn(2, 3, 32, 32)
    for student in (plain, lean):
        student(images).square().sum().backward()
    for first, second in zip(plain.parameters(), lean.parameters(), strict=True):
        assert first.grad is not None
        assert second.grad is not None
        torch.testing.assert_close(first.grad, second.grad)


def test_a_network_that_cannot_recompute_is_a_mistake_of_the_recipe() -> None:
    config = StudentConfig(name="vgg11", grad_checkpointing=True)
    with pytest.raises(ConfigError, match="grad_checkpointing"):
        build_student(config, student_spec(config, None), 5, 32, 0, None)


def test_a_model_file_opens_to_the_same_network(tmp_path: Path) -> None:
    source = saved(tmp_path, 4, class_name="four", class_ids=("a", "b", "c", "d"), step=9)
    network, facts = open_model(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network.eval()(images), source(images))
    assert facts == card(4, class_name="four", class_ids=("a", "b", "c", "d"), step=9)


def test_a_model_file_whose_head_is_not_the_cards_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", tiny(4).state_dict(), card(5))
    with pytest.raises(CheckpointError, match=r"head\.fc\.weight"):
        open_model(tmp_path)


def test_a_file_without_a_card_cannot_be_opened_by_itself(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="does not say which network"):
        open_model(tmp_path / "weights.pth")


def card_of(config: StudentConfig, image_size: int) -> ModelCard:
    """The card of a student of three classes."""
    architecture = student_spec(config, None).model_dump(mode="json")
    return ModelCard(architecture=architecture, num_classes=3, image_size=image_size, mean=(0, 0, 0), std=(1, 1, 1))


def test_a_named_student_at_its_own_resolution_comes_back(tmp_path: Path) -> None:
    config = StudentConfig(name="deit_tiny_distilled_patch16_224", kwargs={"depth": 1, "embed_dim": 12})
    student = build_student(config, student_spec(config, None), 3, 48, 0, None).eval()
    facts = card_of(config, 48)
    save_model(tmp_path / "model.safetensors", student.state_dict(), facts)
    images = torch.randn(1, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(open_model(tmp_path)[0].eval()(images), student(images))


def test_a_student_may_go_on_at_another_resolution_than_its_files(tmp_path: Path) -> None:
    low = StudentConfig(name="deit_tiny_distilled_patch16_224", kwargs={"depth": 1, "embed_dim": 12, "img_size": 32})
    facts = card_of(low, 32)
    student = build_student(low, facts.spec, 3, 32, 0, None)
    save_model(tmp_path / "model.safetensors", student.state_dict(), facts)
    config = StudentConfig(init_from=tmp_path)
    spec = student_spec(config, facts)
    high = build_student(config, spec, 3, 48, 0, InitialWeights(student.state_dict()))
    assert high(torch.randn(1, 3, 48, 48)).shape == (1, 3)
    teacher = build_teacher(TeacherConfig(checkpoint=tmp_path, image_size=48), torch.device("cpu"), "float32")
    assert teacher(torch.zeros(1, 3, 20, 20, dtype=torch.uint8)).shape == (1, 3)
    with pytest.raises(ConfigError, match=r"student\.kwargs\.img_size"):
        build_student(low, student_spec(low, None), 3, 48, 0, None)
    wrong = TeacherConfig(checkpoint=tmp_path, kwargs={"img_size": 64})
    with pytest.raises(ConfigError, match=r"teacher\.kwargs\.img_size"):
        build_teacher(wrong, torch.device("cpu"), "float32")
