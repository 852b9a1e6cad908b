"""The stack on a real cluster: `./task test:cluster -- --context NAME`.

The cluster needs the operator's definitions and the images (`./task k8s:images`); everything else
happens in a namespace that these tests make and delete.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.cluster import Cluster
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(900)

# Every row that any pod of the model has predicted; the pods that are gone keep their last sample.
PREDICTED = "sum(last_over_time(model_predictions_total[2h]))"


@pytest.fixture(name="cluster", scope="module")
def _cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Yield a cluster on which the stack runs."""
    context = request.config.getoption("--context")
    if not context:
        pytest.skip("no cluster was named: ./task test:cluster -- --context NAME")
    cluster = Cluster(context, tmp_path_factory.mktemp("cluster"))
    assert cluster.missing_definitions() == [], "install the operator: ./task k8s:monitoring"
    try:
        cluster.apply()
        cluster.wait()
        yield cluster
    finally:
        cluster.delete()


def test_the_api_server_accepts_production_strictly(cluster: Cluster) -> None:
    """Every object of overlays/production passes admission and strict field validation."""
    words = ("--server-side", "--dry-run=server", "--validate=strict")

    assert cluster.kubectl("apply", *words, "--kustomize", str(cluster.production))


def test_a_second_apply_changes_nothing(cluster: Cluster) -> None:
    """What the API server completes is written out in the manifests."""
    changed = [line for line in cluster.apply() if not line.endswith(" unchanged")]

    # The Job deletes itself a minute after it has ended.
    assert [line for line in changed if "job.batch/prediction-key" not in line] == []


def test_every_replica_is_scraped(cluster: Cluster) -> None:
    """Prometheus has a target that is up for each pod of the model."""
    eventually(lambda: cluster.number('count(up{job="model"} == 1)') == 2, "two targets are up")


def test_every_rule_is_loaded_and_evaluates(cluster: Cluster) -> None:
    """The rules have a result for each feature, and the doctor misses none of them."""
    eventually(
        lambda: cluster.query('model_feature:verdict{window="1h",reference="training"}'),
        "the rules have been evaluated",
        timeout=180,
    )

    assert [text for text in cluster.problems() if "group" in text or "fails" in text] == []


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept alive", "new connections"])
def test_counts_are_exact_over_a_rollout(cluster: Cluster, *, keep_alive: bool) -> None:
    """Every request is answered, and every answer is counted, while all pods are replaced."""
    before = cluster.number(PREDICTED)

    with cluster.client(keep_alive=keep_alive) as client:
        cluster.roll()
        outcomes = client.stop()

    assert set(outcomes) == {"200"}
    expected = before + outcomes["200"]
    eventually(lambda: cluster.number(PREDICTED) == expected, f"{expected:g} rows are counted")


class Broken(NamedTuple):
    """A mistake and its repair as commands of kubectl, and what the doctor says meanwhile."""

    mistake: tuple[str, ...]
    repair: tuple[str, ...]
    text: str
    remedy: str


_NAME = '[{"op": "replace", "path": "/spec/ports/1/name", "value": "%s"}]'
_PORT = f"patch service model --type json --patch '{_NAME}'"
_KEY = "create secret generic model-secrets --from-literal=MODEL_PREDICTION_KEYS="
_LABEL = "label --overwrite servicemonitor model release="
BROKEN = {
    "label": Broken(
        (f"{_LABEL}other",),
        (f"{_LABEL}{{namespace}}",),
        "ServiceMonitor model is ignored",
        "kubectl label --overwrite -n {namespace} servicemonitor model release={namespace}",
    ),
    "port": Broken(
        (_PORT % "other",), (_PORT % "metrics",), "finds no port metrics", "compare its selector"
    ),
    "image": Broken(
        ("set image deployment/model model=ml-monitoring/missing:0",),
        ("rollout undo deployment/model",),
        "ErrImageNeverPull",
        "`./task k8s:images`",
    ),
    "secret": Broken(
        ("delete secret model-secrets", "rollout restart deployment/model"),
        (f"{_KEY}{'0' * 64}",),
        'secret "model-secrets" not found',
        "kubectl create secret generic model-secrets -n {namespace}",
    ),
    "autoscaler": Broken(
        ("apply --filename tests/cluster/broken-autoscaler.yaml",),
        ("delete horizontalpodautoscaler broken",),
        "broken does not scale",
        "prometheus-adapter",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_doctor_finds_and_explains_what_is_broken(cluster: Cluster, name: str) -> None:
    """It says what is wrong and what to do, and nothing of it once it is repaired."""
    broken = BROKEN[name]
    remedy = broken.remedy.format(namespace=cluster.namespace)

    def said() -> list[str]:
        return [each for text, each in cluster.problems().items() if broken.text in text]

    assert said() == []
    cluster.run(broken.mistake)
    try:
        found = eventually(said, f"the doctor says {broken.text!r}", timeout=120)
    finally:
        cluster.run(broken.repair)
    cluster.wait()

    assert all(remedy in each for each in found)
    eventually(lambda: not said(), "the doctor is content", timeout=120)


def test_deleting_leaves_nothing(cluster: Cluster) -> None:
    """The namespace is gone with everything in it, although the Job had deleted itself before."""
    cluster.delete()

    known = cluster.kubectl("get", "namespace", "--output", "name").split()
    assert f"namespace/{cluster.namespace}" not in known
