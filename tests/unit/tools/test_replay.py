"""Replaying a prediction log against another version of the model."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from bundle.arrays import Floats
from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.load import load_bundle
from bundle.manifest import Feature, Quantity
from serving.events import Label, Prediction
from tests.support.bundles import make_classification, make_rows
from tests.support.grades import build_grades
from tests.support.spool import label, small_spool, spool_of
from tools.replay.__main__ import main
from tools.replay.compare import compare, report
from tools.replay.log import ReplayError
from tools.replay.open import open_log
from tools.replay.predict import Predict, with_bundle, with_service
from tools.replay.verdict import accuracy_verdict, error_verdict


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Path:
    """Return a kept spool of ten predictions, each 1 too low, with labels for the first five."""
    directory = tmp_path / "spool"
    directory.mkdir()
    writer, _ = small_spool(directory)
    for number in range(10):
        missing = float("nan") if number == 9 else 2.0
        writer.append([Prediction(str(number), 1.0, (float(number), missing), number - 1.0)])
    writer.append([label(str(number), float(number)) for number in range(5)])
    writer.close()
    return directory


@pytest.fixture(name="candidate", scope="module")
def _candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that predicts `ph` and has its features in another order than the log."""
    directory = tmp_path_factory.mktemp("candidate")
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"shelf": random.uniform(1, 3, 400), "ph": random.uniform(0, 9, 400)})
    # The truth is above and below the prediction equally often, so the fit is exact all the same.
    rows = pd.concat([rows, rows], ignore_index=True)
    rows["quality"] = rows["ph"] + np.repeat([1.0, -1.0], 400)
    recipe = Recipe(
        name="loans",
        target=Quantity(name="quality", description="Grade"),
        features=[Feature(name=name, description=name) for name in ("shelf", "ph")],
    )
    build_bundle(LinearRegression(), rows, rows, recipe, directory)
    return directory


def echo(request: httpx.Request) -> httpx.Response:
    """Answer like a service that predicts `ph` and rejects rows without `shelf`."""
    instances = json.loads(request.content)["instances"]
    if any(each["shelf"] is None for each in instances):
        return httpx.Response(422, json={"detail": []})
    answers = [
        {"quality": each["ph"], "prediction_id": "", "model_version": ""} for each in instances
    ]
    return httpx.Response(200, json={"predictions": answers})


def service(handler: Callable[[httpx.Request], httpx.Response] = echo) -> Predict:
    """Return a function that predicts with a service in this process."""
    transport = httpx.MockTransport(handler)
    return with_service(httpx.Client(base_url="http://model", transport=transport))


def compared(log: Path, predict: Predict, worst: int = 1) -> list[str]:
    """Return the lines of the report."""
    opened = open_log([str(log)])
    return [*report(opened, compare(opened, predict, worst))]


def test_a_log_is_read_back(log: Path) -> None:
    """A log is read into the rows, predictions and labels that were spooled."""
    found = open_log([str(log)])
    (part,) = found.parts()
    labels = found.labels()

    assert part.names == ["ph", "shelf"]
    assert part.rows[8:] == [(8.0, 2.0), (9.0, None)]
    assert part.predictions.tolist() == [number - 1.0 for number in range(10)]
    expected = [*map(float, range(5)), *[math.nan] * 5]
    assert np.array_equal(labels.find(part.keys), expected, equal_nan=True)


def test_an_incomplete_last_line_is_skipped(log: Path) -> None:
    """A log whose last line was cut off is read without that line."""
    (segment,) = log.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-3])

    assert "labelled rows: 4" in compared(segment, service())


def test_damaged_lines_and_segments_are_skipped_and_counted(log: Path) -> None:
    """The rest of the log is compared."""
    (segment,) = log.glob("*.jsonl")
    content = segment.read_bytes()
    segment.write_bytes(content + b'{"prediction_id":1}\n\xff\n{"label_of":\n')
    (log / "0.jsonl").write_bytes(content.replace(b"loans", b"loanz", 1))

    lines = compared(log, service())

    assert lines[:2] == [
        "skipped: 3 damaged lines, 1 damaged files",
        "10 predictions of version abc",
    ]


def test_a_log_is_compared_with_a_service(log: Path) -> None:
    """The report has the differences, the rejected rows and the errors of both versions."""
    assert compared(log, service()) == [
        "10 predictions of version abc",
        'rejected rows: 1; the first: {"detail":[]}',
        "different predictions: 100.0%",
        "difference: mean +1, mean absolute 1",
        "absolute: median 1, p99 1, maximum 1",
        "labelled rows: 5",
        "logged: MAE 1, RMSE 1, bias -1",
        "replayed: MAE 0, RMSE 0, bias +0",
        "MAE, replayed minus logged: -1; cannot tell: 5 distinct rows, 30 are needed",
        "largest differences:",
        '-1 → 0 {"ph": 0.0, "shelf": 2.0}',
    ]


def test_a_log_is_compared_with_a_bundle(
    log: Path, candidate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle's features are matched by name, whatever their order."""
    main([str(log), "--bundle", str(candidate), "--worst", "0"])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 predictions of version abc"
    assert lines[1].startswith("rejected rows: 1; the first: ")
    assert lines[2:4] == ["different predictions: 100.0%", "difference: mean +1, mean absolute 1"]


def test_every_logged_version_is_compared(log: Path) -> None:
    """Versions are not mixed, and may have other features than each other."""
    writer, _ = small_spool(log, version="def")
    writer.append([Prediction("new", 1.0, (7.0, 2.0), 7.0)])
    writer.close()

    lines = compared(log, service())

    at = lines.index("1 predictions of version def")
    assert lines[0] == "10 predictions of version abc"
    assert lines[at + 1] == "different predictions: 0.0%"


def test_a_prediction_that_is_logged_twice_counts_once(log: Path) -> None:
    """An event that was requeued is in two segments."""
    (segment,) = log.glob("*.jsonl")
    (log / "9.jsonl").write_bytes(segment.read_bytes())

    assert compared(log, service())[0] == "10 predictions of version abc"


def test_the_largest_differences_are_those_of_distinct_rows(tmp_path: Path) -> None:
    """A row that is asked again and again is shown once."""
    writer, _ = small_spool(tmp_path)
    for number in range(50):
        writer.append([Prediction(f"same-{number}", 1.0, (9.0, 2.0), 0.0)])
    writer.append([Prediction(f"{ph}", 1.0, (ph, 2.0), 0.0) for ph in (1.0, 3.0, 2.0)])
    writer.close()

    assert compared(tmp_path, service(), worst=3)[-3:] == [
        '0 → 9 {"ph": 9.0, "shelf": 2.0}',
        '0 → 3 {"ph": 3.0, "shelf": 2.0}',
        '0 → 2 {"ph": 2.0, "shelf": 2.0}',
    ]


def rename_shelf(log: Path) -> None:
    """Let the log's version have another feature in the place of `shelf`."""
    (segment,) = log.glob("*.jsonl")
    header, _, rest = segment.read_bytes().partition(b"\n")
    renamed = header.partition(b',"crc32"')[0].replace(b"shelf", b"shelves") + b"}"
    segment.write_bytes(renamed + b"\n" + rest)


def test_a_candidate_with_other_features_is_explained(log: Path, candidate: Path) -> None:
    """The message names the version, what it lacks, and why."""
    rename_shelf(log)

    with pytest.raises(
        ReplayError,
        match=r"^version abc: the other model needs features that were not logged: shelf;"
        " this version had none, or MODEL_SPOOL_EXCLUDE left them out then",
    ):
        compared(log, with_bundle(candidate))
    with pytest.raises(ReplayError, match=r"shelf; MODEL_SPOOL_EXCLUDE leaves out shelf$"):
        compared(log, with_bundle(candidate, {"shelf", "other"}))


def test_a_version_that_cannot_be_compared_does_not_hinder_the_others(
    log: Path, candidate: Path
) -> None:
    """Each version says for itself what it lacks."""
    rename_shelf(log)
    writer, _ = small_spool(log, version="def")
    writer.append([Prediction("new", 1.0, (7.0, 2.0), 7.5)])
    writer.close()

    lines = compared(log, with_bundle(candidate))

    assert lines[0] == "10 predictions of version abc"
    assert lines[1].startswith("not compared: the other model needs features that were not logged:")
    assert lines[2:4] == ["1 predictions of version def", "different predictions: 100.0%"]


def test_a_service_that_rejects_all_rows_is_not_asked_for_each(log: Path) -> None:
    """Ten rows alone are enough to tell."""
    asked: list[int] = []

    def reject(request: httpx.Request) -> httpx.Response:
        asked.append(len(json.loads(request.content)["instances"]))
        return httpx.Response(422, json={"detail": "no shelf"})

    writer, _ = small_spool(log)
    writer.append([Prediction(f"more-{at}", 1.0, (7.0, 2.0), 7.0) for at in range(3_000)])
    writer.close()

    with pytest.raises(
        ReplayError, match=r'^version abc: the other model rejects all rows; the first: {"detail"'
    ):
        compared(log, service(reject))
    assert asked == [10, *[1] * 10]


def test_the_interval_covers_the_true_difference() -> None:
    """Of 400 samples with rows repeated ten times, about 95 % cover it, and few say a direction."""
    random = np.random.default_rng(0)
    words: Counter[str] = Counter()
    for _ in range(400):
        of_rows = random.normal(size=100)
        paired = np.repeat(of_rows, 10) + random.normal(size=1_000) * 0.1
        words[error_verdict(paired, np.repeat(np.arange(100), 10)).rpartition(": ")[2]] += 1

    # 5 % of 400, with four standard deviations.
    assert 2 <= words["better"] + words["worse"] <= 38
    assert words["cannot tell"] == 400 - words["better"] - words["worse"]


def test_a_clear_difference_is_told() -> None:
    """The sign says which version has the smaller error."""
    random = np.random.default_rng(0)
    paired = random.normal(-1.0, 1.0, 1_000)

    assert error_verdict(paired, np.arange(1_000)).endswith(": better")
    assert error_verdict(-paired, np.arange(1_000)).endswith(": worse")


def right_of(only_logged: int, only_replayed: int, rows: int = 10_000) -> Floats:
    """Return the paired differences (rows,) where one version alone is right in some rows."""
    paired = np.zeros(rows)
    paired[:only_logged] = -1.0
    paired[only_logged : only_logged + only_replayed] = 1.0
    return paired


@pytest.mark.parametrize(
    ("only_logged", "only_replayed", "word"),
    [
        (0, 0, "cannot tell"),
        (0, 5, "cannot tell"),
        (0, 6, "better"),
        (6, 0, "worse"),
        (30, 31, "cannot tell"),
        (30, 60, "better"),
    ],
)
def test_a_difference_of_accuracy_needs_enough_changes(
    only_logged: int, only_replayed: int, word: str
) -> None:
    """It is reported where McNemar's exact test rejects at 5 %: 5 to 0 has 6 %, 6 to 0 has 3 %."""
    paired = right_of(only_logged, only_replayed)

    assert accuracy_verdict(paired, np.arange(10_000)).endswith(f": {word}")


def test_the_interval_of_accuracy_is_that_of_bonett_and_price() -> None:
    """Their formula adds one to both counts of rows that differ: 8 + 1 and 2 + 1 of 102."""
    up, down = 9 / 102, 3 / 102
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 102)

    text = accuracy_verdict(right_of(2, 8, rows=100), np.arange(100))

    assert text.startswith("+0.06 (95 % interval ")
    found = [float(each) for each in re.findall(r"[-+]\d[\d.e-]*", text)[1:]]
    # Within the correction for the number of groups, 102 / 101.
    assert found == pytest.approx([up - down - half, up - down + half], abs=0.001)


def test_a_row_that_is_asked_often_counts_once_in_the_interval_of_accuracy() -> None:
    """5 rows that all changed in the same direction tell nothing, however often they were asked."""
    paired = np.repeat(right_of(0, 5, rows=100), 1_000)

    assert accuracy_verdict(paired, np.repeat(np.arange(100), 1_000)).endswith(": cannot tell")


def test_the_interval_of_accuracy_covers_the_true_difference() -> None:
    """Of 400 samples with rows repeated ten times, few say a direction that is not there."""
    random = np.random.default_rng(0)
    words: Counter[str] = Counter()
    for _ in range(400):
        paired = np.repeat(random.choice([-1.0, 0.0, 1.0], 200, p=[0.05, 0.9, 0.05]), 10)
        verdict = accuracy_verdict(paired, np.repeat(np.arange(200), 10))
        words[verdict.rpartition(": ")[2]] += 1

    # 5 % of 400, with four standard deviations.
    assert words["better"] + words["worse"] <= 38
    assert words["better"] * words["worse"] > 0


GRADES_ROWS: list[tuple[float, str | None, float, bool]] = [
    (1000.0, "trip", 1.0, True),
    (math.nan, None, 3.0, False),
    (1.0, "boat", 3.0, True),
]


@pytest.fixture(name="grades", scope="module")
def _grades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of a classification of the classes 1, 2 and 3."""
    directory = tmp_path_factory.mktemp("grades")
    build_grades(directory)
    return directory


@pytest.fixture(name="classes")
def _classes(tmp_path: Path, grades: Path) -> Path:
    """Return a log of 40 times 3 rows, all predicted as 1; the first one's label is 3."""
    directory = tmp_path / "classes"
    directory.mkdir()
    manifest = load_bundle(grades).manifest
    spooled: list[Prediction | Label] = []
    for time in range(40):
        for at, (amount, *others) in enumerate(GRADES_ROWS):
            id_ = f"{time}-{at}"
            spooled.append(Prediction(id_, 1.0, (amount + time, *others), 1, [1.0, 0.0, 0.0]))
            if at == 0:
                spooled.append(Label(id_, 2.0, manifest.version, 3))
    spool_of(directory, manifest, spooled)
    return directory


def test_a_log_of_classes_is_compared_with_a_bundle(classes: Path, grades: Path) -> None:
    """The log has missing values and unseen categories; changes are counted by pair of classes."""
    lines = compared(classes, with_bundle(grades))

    assert lines == [
        f"120 predictions of version {load_bundle(grades).manifest.version}",
        "different predictions: 33.3%",
        "1 → 3: 40",
        "labelled rows: 40",
        "logged: accuracy 0",
        "replayed: accuracy 1",
        "accuracy, replayed minus logged: +1 (95 % interval +0.859 to +1): better",
    ]


def test_a_log_of_classes_is_compared_with_a_service(classes: Path) -> None:
    """Rejected rows are not compared, and one change tells nothing."""

    def answer(request: httpx.Request) -> httpx.Response:
        instances = json.loads(request.content)["instances"]
        if any(each["purpose"] == "boat" for each in instances):
            return httpx.Response(422, json={"detail": []})
        answers = [
            {"grade": 1 + (each["amount"] == 1000.0), "probabilities": {}, "prediction_id": ""}
            for each in instances
        ]
        return httpx.Response(200, json={"predictions": answers})

    lines = compared(classes, service(answer))

    assert lines[1:4] == [
        'rejected rows: 40; the first: {"detail":[]}',
        "different predictions: 1.2%",
        "1 → 2: 1",
    ]
    assert lines[-1].endswith(": cannot tell")


def test_rare_changes_are_counted_together(tmp_path: Path) -> None:
    """A hundred classes have 9,900 pairs."""
    manifest = make_classification([*range(30)], probabilities=False)
    events = [Prediction(str(at), 1.0, row, at) for at, row in enumerate(make_rows(30))]
    spool_of(tmp_path, manifest, events)

    lines = compared(tmp_path, lambda _, rows: [29] * len(rows))

    assert lines[1] == "different predictions: 96.7%"
    assert lines[-1] == "9 other pairs: 9"


def test_times_are_sent_as_iso_8601(tmp_path: Path) -> None:
    """The log has seconds since 1970."""
    sent: list[dict[str, object]] = []
    rows = [(1.0, 2.0, True, "green", 3.0, built, 0.5) for built in (86_400.25, math.nan)]
    events = [
        Prediction(str(at), 1.0, row, "ham", [0.5, 0.25, 0.25]) for at, row in enumerate(rows)
    ]
    spool_of(tmp_path, make_classification(), events)

    def answer(request: httpx.Request) -> httpx.Response:
        sent.extend(json.loads(request.content)["instances"])
        return httpx.Response(200, json={"predictions": [{"kind": "spam"}] * 2})

    lines = compared(tmp_path, service(answer))

    assert [each["built"] for each in sent] == ["1970-01-02T00:00:00.250000+00:00", None]
    assert sent[0]["new"] is True
    assert "ham → spam: 2" in lines


def test_numbers_and_classes_cannot_be_compared(log: Path, classes: Path) -> None:
    """The message says which version predicts what."""
    numbers = service(lambda _: httpx.Response(200, json={"predictions": [{"grade": 1.5}] * 120}))
    words = service(lambda _: httpx.Response(200, json={"predictions": [{"quality": "good"}] * 10}))

    with pytest.raises(ReplayError, match=r"the other model predicts numbers, version .* classes"):
        compared(classes, numbers)
    with pytest.raises(ReplayError, match="the other model predicts classes, version abc numbers"):
        compared(log, words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"contains no prediction \(0 damaged lines, 1 damaged files\)"),
        ("no json\n", "contains no prediction"),
        ('{"spool":2}\n', "has a format that is not known here"),
        ('{"spool":1,"features":[]}\n', "contains no prediction"),
    ],
)
def test_an_invalid_log_is_reported(tmp_path: Path, content: str, message: str) -> None:
    """An invalid log ends the command with one line that names the reason."""
    (tmp_path / "1.jsonl").write_text(content)

    with pytest.raises(SystemExit, match=f"^replay: .*{message}"):
        main([str(tmp_path), "--url", "http://127.0.0.1:1"])


def test_an_unreachable_service_is_reported(log: Path) -> None:
    """An unreachable service ends the command with one line that names its URL."""
    with pytest.raises(SystemExit, match=r"^replay: http://127.0.0.1:1"):
        main([str(log), "--url", "http://127.0.0.1:1"])
