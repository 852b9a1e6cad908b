"""The documented queries of the prediction log, run on the example: each answer is the real one."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Manifest, Reference
from tests.support.drift import drift
from tests.support.example import drifted_rows
from tests.support.prediction_log import log_example
from tests.support.promtool import check, equals, series, started
from tools import ROOT
from tools.log.__main__ import main

DOCUMENT = ROOT / "docs" / "prediction_log.md"
_CONSOLE = re.compile(r"^```console\n\$ (\./task log.*?)```$", re.MULTILINE | re.DOTALL)


def documented() -> list[tuple[list[str], str]]:
    """Return the arguments and the shown answer of each documented command."""
    found = []
    for block in _CONSOLE.findall(DOCUMENT.read_text("utf-8")):
        quoted = re.match(r'[^"\n]*(?:"[^"]*")?[^"\n]*\n', block)
        assert quoted
        words = shlex.split(quoted[0])
        assert words[:2] == ["./task", "log"]
        found.append((words[3:], block[quoted.end() :]))
    return found


@pytest.fixture(name="checkout")
def _checkout(example_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with the example's bundle and its log, which is the current one."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "bundle").symlink_to(example_bundle)
    (tmp_path / "spool").mkdir()
    log_example(example_bundle, tmp_path / "spool", str(tmp_path / "log"))
    monkeypatch.setenv("PREDICTION_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("STACK_VAR", str(tmp_path / "var"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_four_commands_are_documented() -> None:
    """The summary, the error by segment, the worst rows, and the drift."""
    texts = [" ".join(arguments) for arguments, _ in documented()]

    assert texts[0] == ""
    assert all(
        part in text for part, text in zip(("avg(abs", "limit 5", "ln("), texts[1:], strict=True)
    )


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("number", range(4))
def test_a_documented_query_has_the_documented_answer(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the summary, which has ages, sizes and a version, what `lasting` leaves."""
    arguments, shown = documented()[number]

    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if arguments:
        assert out == shown
    else:
        assert lasting(out) == lasting(shown)


def lasting(text: str) -> list[list[str]]:
    """Return the words of each line, without ages, versions, the last number, and rules."""
    varying = r"-?\d+ s ago|\b[0-9a-f]{12}\b|[\d,]+$|^-[- ]*$"
    without = re.sub(varying, "", text, flags=re.MULTILINE)
    return [line.split() for line in without.splitlines()]


@pytest.fixture(name="found")
def _found(checkout: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Return what the documented query finds, of each feature and in full precision."""
    assert checkout.is_dir()
    formula = "sum((p - q) * ln(p / q))"
    query = documented()[3][0][1].replace(f"round({formula}, 4)", formula)
    assert main(["--format", "json", "sql", query.replace("limit 4", "")]) == 0
    return {each["feature"]: each["psi"] for each in json.loads(capsys.readouterr().out)}


def counted(reference: Reference, bundle: Path) -> Floats:
    """Return the logged rows in each bin, counted without SQL."""
    values = np.array([row[reference.name] for row in drifted_rows(bundle)[:500]])
    limits = [-np.inf, *reference.edges, np.inf]
    return np.array(
        [float(((low <= values) & (values < high)).sum()) for low, high in pairwise(limits)]
    )


def test_the_documented_drift_is_that_of_the_formula(
    found: dict[str, float], example_bundle: Path, example: Manifest
) -> None:
    """For every feature, to 1e-9."""
    expected = {
        each.name: drift(
            counted(each, example_bundle), np.array([float(bin_.count) for bin_ in each.bins])
        ).psi
        for each in example.reference
        if each.name != PREDICTION
    }

    assert len(expected) == len(example.features)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert {*found} == {*expected, PREDICTION}


def test_the_documented_drift_is_that_of_the_rules(
    found: dict[str, float], example_bundle: Path, example: Manifest, tmp_path: Path
) -> None:
    """If a model had counted the same rows within an hour: to 1e-6, by promtool."""
    model = {"job": "model", "model": "loans", "version": "a"}
    target = {"instance": "0:8001"}
    inputs = [series(*started(target, 41))]
    for reference in example.reference[:3]:
        labels = model | target | {"feature": reference.name}
        rows = np.full(41, float(example.rows))
        inputs.append(series("model_feature_reference_rows", labels, rows))
        for bin_, rows_in_bin in zip(
            reference.bins, counted(reference, example_bundle), strict=True
        ):
            of_bin = labels | {"bin": bin_.bin}
            burst = np.where(np.arange(41) < 20, 0.0, rows_in_bin)
            inputs += [
                series("model_feature_bin_total", of_bin, burst),
                series(
                    "model_feature_reference_ratio",
                    of_bin | {"range": bin_.range},
                    np.full(41, bin_.ratio),
                ),
            ]
    statistic = model | {"window": "1h", "reference": "training"}

    check(
        tmp_path,
        "15s",
        inputs,
        [
            equals(
                "model_feature:psi", statistic | {"feature": each.name}, found[each.name], minute=10
            )
            for each in example.reference[:3]
        ],
    )
