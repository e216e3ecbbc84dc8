"""``pipelines/kubernetes``: manifests that Kubernetes' own schemas allow, whose numbers and paths agree.

Jobs are checked against Kubernetes' JSON schemas (kubernetes-validate), and the JobSet against the models that Kubeflow
generates from its API (kubeflow-trainer-api), which know no more than names and types. No cluster is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.documented_commands import check, understood
from tinyvit_kd.cli import USER_ERROR
from tinyvit_kd.runtime.job_array import KUBERNETES, part_of
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE

FOLDER = REPOSITORY / "pipelines" / "kubernetes"
DUMP, TRAIN = (yaml.safe_load((FOLDER / name).read_text()) for name in ("dump.yaml", "train.yaml"))
VERSIONS = ("1.33", "1.37")  # the oldest with backoffLimitPerIndex for everybody, and the newest that is known
Tree = dict[str, Any]


def jobs() -> dict[str, Tree]:
    """All Jobs: the one for dumping, and those that the JobSet makes."""
    made = {each["name"]: {"apiVersion": "batch/v1", "kind": "Job"} | each["template"] for each in replicated()}
    return {"dump": DUMP} | made


def replicated() -> list[Tree]:
    found: list[Tree] = TRAIN["spec"]["replicatedJobs"]
    return found


EACH_JOB = pytest.mark.parametrize("job", jobs().values(), ids=jobs())


def container(job: Tree) -> Tree:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    found: Tree = only
    return found


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def probes(job: Tree) -> Iterator[list[str]]:
    for name in ("startupProbe", "livenessProbe"):
        yield container(job)[name]["exec"]["command"]


@EACH_JOB
@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_is_what_kubernetes_allows(job: Tree, version: str) -> None:
    kubernetes_validate.validate(job, version, strict=True)


def test_a_mistake_in_a_job_is_found() -> None:
    wrong = DUMP | {"spec": DUMP["spec"] | {"completion": 16}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[1], strict=True)


def lost(given: Any, taken: Any, where: str = "") -> list[str]:
    """Where a value has something that its reading has not: models leave out what they do not know."""
    if isinstance(given, dict) and isinstance(taken, dict):
        absent = [f"{where}.{key}" for key in given if key not in taken]
        return absent + [
            each for key in given.keys() & taken for each in lost(given[key], taken[key], f"{where}.{key}")
        ]
    if isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        pairs = enumerate(zip(given, taken, strict=True))
        return [each for place, pair in pairs for each in lost(*pair, f"{where}.{place}")]
    return [] if given == taken else [where]


def read(tree: Tree) -> Any:
    """A JobSet as its API's models read it."""
    name = "kubeflow_trainer_api.models.jobset_v1alpha2_job_set"
    models = pytest.importorskip(name, reason="kubeflow-trainer-api is not installed (extra manifests)")
    return models.JobsetV1alpha2JobSet.from_dict(tree).to_dict()


def test_the_job_set_is_what_its_api_knows() -> None:
    assert lost(TRAIN, read(TRAIN)) == []


@pytest.mark.parametrize(
    ("section", "where"),
    [({"replicatedJob": []}, ".spec.replicatedJob"), ({"network": {"dns": True}}, ".spec.network.dns")],
    ids=["a field that is none", "one further in"],
)
def test_a_mistake_in_a_job_set_is_found(section: Tree, where: str) -> None:
    wrong = TRAIN | {"spec": TRAIN["spec"] | section}
    assert lost(wrong, read(wrong)) == [where]


def test_a_wrong_type_in_a_job_set_is_refused() -> None:
    with pytest.raises(ValueError, match="maxRestarts"):
        read(TRAIN | {"spec": TRAIN["spec"] | {"failurePolicy": {"maxRestarts": "five"}}})


@EACH_JOB
def test_commands_and_probes_could_be_typed(job: Tree) -> None:
    words = [*container(job)["command"], *container(job)["args"]]
    recipe = next(word for word in words if word.startswith("/recipes/"))
    (shipped,) = (REPOSITORY / "configs").glob(f"*/{recipe.removeprefix('/recipes/')}")
    check(words, {recipe: shipped})
    for probe in probes(job):
        assert probe[:2] == ["tinyvit-kd", "status"]
        asked = understood(probe[1:])
        assert asked is not None
        assert asked.values["stale"] > 0


@EACH_JOB
def test_exit_codes_decide_what_becomes_of_a_pod(job: Tree) -> None:
    rules = {rule["action"]: rule["onExitCodes"] for rule in job["spec"]["podFailurePolicy"]["rules"][:2]}
    assert rules["FailJob"]["values"] == [USER_ERROR]
    assert rules["Ignore"]["values"] == [REQUEUE_EXIT_CODE]
    assert {rule["containerName"] for rule in rules.values()} == {container(job)["name"]}
    assert job["spec"]["podFailurePolicy"]["rules"][2]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert container(job)["command"][:2] == ["tinyvit-kd", "torchrun"]  # torchrun itself would answer 1
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # else there is no policy of failures


@EACH_JOB
def test_a_probe_looks_where_the_stage_writes(job: Tree) -> None:
    name = container(job)["args"][1].removeprefix("/recipes/")
    (path,) = (REPOSITORY / "configs").glob(f"*/{name}")
    recipe = yaml.safe_load(path.read_text())
    written = recipe["output"] if "output" in recipe else recipe["store"]["path"]
    assert {probe[2] for probe in probes(job)} == {f"{container(job)['workingDir']}/{written}"}
    mounts = {each["name"]: each["mountPath"] for each in container(job)["volumeMounts"]}
    assert mounts["data"] == container(job)["workingDir"]
    assert mounts.keys() == {each["name"] for each in job["spec"]["template"]["spec"]["volumes"]}


def test_the_pods_of_the_dump_have_all_parts_and_each_its_own() -> None:
    told = {option(words, "--part") for words in (container(DUMP)["args"], *probes(DUMP))}
    assert len(told) == 1
    count = DUMP["spec"]["completions"]
    parts = [part_of(next(iter(told)), {KUBERNETES: str(index)}) for index in range(count)]
    assert parts == [(number, count) for number in range(1, count + 1)]


def test_the_nodes_of_pretraining_meet_at_the_first_of_them() -> None:
    pretrain = replicated()[0]
    words = container(jobs()["pretrain"])["command"]
    spec = pretrain["template"]["spec"]
    assert spec["completions"] == spec["parallelism"] == int(option(words, "--nnodes"))
    name = TRAIN["metadata"]["name"]
    # The name that JobSet gives a pod: SET-JOB-NUMBER-INDEX, in the domain of the set.
    assert option(words, "--rdzv_endpoint").partition(":")[0] == f"{name}-{pretrain['name']}-0-0.{name}"
    assert replicated()[1]["dependsOn"] == [{"name": pretrain["name"], "status": "Complete"}]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_stage_has_time_to_write_its_checkpoint(name: str) -> None:
    environment = {each["name"]: each["value"] for each in container(jobs()[name])["env"]}
    grace = jobs()[name]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert 30 < int(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < grace
