"""kube-score finds nothing critical in the overlay for production, except the pull policy."""

import json
import shutil
import subprocess

import pytest

from tools import ROOT

# Tags are versions and never move, so a node may keep an image.
ACCEPTED = {"container-image-pull-policy"}
CRITICAL = 1
SOURCE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"


def test_production_has_no_critical_finding() -> None:
    """Every check that applies passes, warns or is accepted above."""
    kube_score = shutil.which("kube-score")
    if not kube_score:
        pytest.skip(f"kube-score is not installed: go install {SOURCE}")
    manifests = ROOT / "k8s/overlays/production"
    built = subprocess.run(
        [shutil.which("kustomize") or "kustomize", "build", manifests],
        capture_output=True,
        check=True,
    ).stdout
    done = subprocess.run(
        [kube_score, "score", "--output-format", "json", "-"],
        input=built,
        capture_output=True,
        check=False,
    )
    scored = json.loads(done.stdout)
    found = {
        f"{each['object_name']}: {check['check']['id']}"
        for each in scored
        for check in each["checks"]
        if not check["skipped"] and check["grade"] <= CRITICAL
    }
    assert scored
    assert {each for each in found if each.split(": ")[1] not in ACCEPTED} == set()
