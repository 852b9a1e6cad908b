"""The study counts episodes and delays alike for all rules, and its tables show them."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from tools.honesty import __main__ as command
from tools.honesty import study, tables
from tools.honesty.rules import Statistics
from tools.honesty.streams import (
    CHANGES,
    TRAFFIC,
    Arrivals,
    Change,
    Effect,
    Rows,
    Traffic,
    decorrelate,
    in_bursts,
    in_succession,
    over_the_hour,
    singly,
)
from tools.honesty.study import FIXED, OURS, QUICK, Size, Study

FILE = f"# Read me\n\n{tables.START}\nold\n{tables.END}\n\nThe rest.\n"


class HeavyTails(Traffic):
    """Traffic whose values have a kurtosis of 36."""

    def draw(self, random: np.random.Generator, minutes: int, signals: int) -> Rows:
        """Draw rows."""
        rows = super().draw(random, minutes, signals)
        return Rows(rows.minute, np.sinh(rows.values))

    def train(self, random: np.random.Generator, signals: int) -> Floats:
        """Draw training rows."""
        return np.asarray(np.sinh(super().train(random, signals)))


def unchanged(_: np.random.Generator, values: Floats, __: Floats) -> Floats:
    """Change nothing."""
    return values


SHIFT = next(each for each in CHANGES if each.name == "mean +1 σ")


@pytest.fixture(name="quick", scope="module")
def _quick() -> Study:
    """Run the quick study once."""
    return study.run(QUICK, None)


def test_no_alarm_without_drift(quick: Study) -> None:
    """Neither with independent rows nor with rows that each come ten times at once."""
    assert {name: found[OURS] for name, found in quick.false.items()} == {
        "independent rows": [[], []],
        "repeats at once": [[], []],
    }


def test_one_sigma_is_found_within_two_hours(quick: Study) -> None:
    """With a day of clean traffic behind it, and at once, from the first row on."""
    (delays,) = quick.delays.values()

    assert max(delays[f"{OURS}, 25 hours"]) < 2
    assert max(delays[f"{OURS}, at once"]) < 1
    assert len(delays[FIXED]) == 4


def test_counts_are_those_of_the_rows() -> None:
    """Every row is in one bin of its minute, and training's bins are even."""
    stream = study.undrifted(TRAFFIC[0], QUICK)
    (minutes, training), _ = study.count(stream)

    rows = np.bincount(stream.rows.minute, minlength=stream.minutes)
    np.testing.assert_array_equal(minutes.counts.sum(axis=1), rows)
    assert set(training.counts) <= {128.0, 129.0}
    assert training.kurtosis == pytest.approx(3, abs=0.5)


def test_repeats_are_counted_by_the_service_s_memory() -> None:
    """Rows that come ten times have 4.5 earlier occurrences on average."""
    stream = study.undrifted(next(each for each in TRAFFIC if each.repeats), QUICK)
    (minutes, _), _ = study.count(stream)

    earlier = minutes.repeats["1h"].sum() / minutes.counts.sum()
    assert earlier == pytest.approx(4.5, rel=0.01)


def test_changes_come_at_any_hour_of_the_day() -> None:
    """Else a daily check would always be equally early."""
    hours = {study.changed(SHIFT, 1500, number, 4)[1] // 60 % 24 for number in range(4)}

    assert len(hours) == 4


def test_alarms_that_overlap_are_one_episode() -> None:
    """Those of a chunk last until the next one and are kept for six hours more."""
    alarms = study.held([0, 1, 9, 20], 60, 6000)

    assert alarms[0] == (60, 480)
    assert study.episodes(alarms) == [60, 600, 1260]
    assert study.held([0, 1], 60, 90) == [(60, 480)]


def test_an_alarm_that_does_not_end_is_an_episode_a_day() -> None:
    """Else a rule that always alarms would have the fewest false alarms."""
    assert study.episodes([(10, 2 * 1440 + 20)]) == [10, 1450, 2890]
    assert study.episodes(study.held(range(48), 60, 5000)) == [60, 1500, 2940]
    assert study.episodes(study.held([0, 1, 3], 1440, 7200)) == [1440, 2880, 5760]


def test_delay_counts_from_the_change() -> None:
    """What alarmed before does not count, and no alarm is an infinite delay."""
    assert study.first_after(100, [(40, 500), (160, 700)]) == 1.0
    assert math.isinf(study.first_after(100, [(40, 500)]))


def test_the_peers_answer_once_for_the_same_rows(tmp_path: Path) -> None:
    """The second time, the answer comes from a file; alarms are those of whole chunks."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    stand_in = venv / "bin" / "python"
    log = tmp_path / "log"
    stand_in.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        'print(\'{"evidently": "1"}\', flush=True)\n'
        "for line in sys.stdin:\n"
        f"    open({str(log)!r}, 'a').write('asked ')\n"
        '    print(\'{"evidently h": [[0], []], "evidently d": [[], [1]]}\', flush=True)\n'
    )
    stand_in.chmod(0o755)

    with study.peers(venv) as others:
        answers = [others.alarms(study.undrifted(TRAFFIC[0], QUICK)) for _ in range(2)]

    assert others.versions == {"evidently": "1"}
    assert answers[0] == answers[1]
    assert answers[0] == {
        "evidently h": [[(60, 480)], []],
        "evidently d": [[], [(2880, 4320)]],
    }
    assert log.read_text() == "asked "


@pytest.mark.parametrize("switch", ["NML_DISABLE_USAGE_LOGGING", "DO_NOT_TRACK"])
def test_telemetry_is_off_before_the_packages_are_imported(switch: str) -> None:
    """NannyML and Evidently report their use over the network unless these are set."""
    source = study.PEERS.read_text("utf-8")

    assert -1 < source.index(f'os.environ["{switch}"] = "1"') < source.index("import nannyml")
    assert source.index("import nannyml") < source.index("from evidently")


def found() -> Study:
    """Return a study with made-up alarms."""
    return Study(
        Size(streams=1, signals=2),
        versions={"evidently": "1.2"},
        false={
            "some traffic": {
                OURS: [[], [(100, 500), (9000, 9500)]],
                "evidently h": [[(i * 1000, i * 1000 + 500) for i in range(100)], []],
            }
        },
        delays={
            "a change": {
                f"{OURS}, at once": [1.0, 2.5],
                "evidently h": [0.5, math.inf],
                "evidently d": [math.inf, math.inf],
                "evidently multivariate d": [4.0],
            }
        },
    )


def test_false_alarms_are_shown_with_their_range() -> None:
    """Exact by Poisson where they are few; the first day has a line of its own."""
    assert tables.false_alarms(found()).splitlines()[2:] == [
        "| this project | 1 (0.12–3.6) |",
        "| …of these, on its first day | 0.5 (0.013–2.8) |",
        "| …of these, after its first week | 0 (0–1.8) |",
        "| Evidently 1.2 hourly | 50 |",
    ]


def test_delays_are_shown_as_median_and_worst() -> None:
    """Missed ones are counted; a multivariate check answers for all signals of its package."""
    assert tables.delays(found()).splitlines() == [
        "| change | this project, at once | Evidently 1.2 hourly | Evidently 1.2 daily |",
        "| --- | --: | --: | --: |",
        "| a change | 1.8 (2.5) | – | 4.0 (4.0) |",
    ]


def test_same_seed_gives_the_same_rows() -> None:
    """The tables can be reproduced."""
    first, second = (study.changed(SHIFT, 60, 1, 4)[0] for _ in range(2))

    np.testing.assert_array_equal(first.rows.values, second.rows.values)


def test_report_is_written_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Study
) -> None:
    """--write replaces what is between the markers and nothing else, however often it runs."""
    monkeypatch.setattr(study, "run", lambda *_: quick)
    file = tmp_path / "README.md"
    file.write_text(FILE)

    command.main(["--quick", "--write", str(file)])
    command.main(["--quick", "--write", str(file)])

    assert file.read_text() == FILE.replace("old", tables.report(quick))


def test_file_without_markers_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names what is missing before anything is simulated; the file stays as it was."""
    monkeypatch.setattr(study, "run", lambda *_: pytest.fail("simulated"))
    file = tmp_path / "README.md"
    file.write_text("# Read me\n")

    with pytest.raises(SystemExit, match=r"markers .* are missing"):
        command.main(["--quick", "--write", str(file)])
    assert file.read_text() == "# Read me\n"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the other tools, one line says how to install them."""
    monkeypatch.setattr(study.peers.__wrapped__, "__defaults__", (tmp_path / "venv",))  # type: ignore[attr-defined]

    with pytest.raises(SystemExit, match=r"\./task honesty installs it"):
        command.main([])


def test_changes_apply_to_all_signals() -> None:
    """Both signals of a stream are one σ higher afterwards."""
    change = Change("mean +1 σ", SHIFT.effect)
    stream, at = study.changed(change, 60, 0, 4)
    after = stream.rows.values[stream.rows.minute >= at]

    np.testing.assert_allclose(after.mean(axis=0), 1, atol=0.02)


def hours(traffic: Traffic, change: Effect = unchanged, number: int = 200) -> list[float]:
    """Return, of separate hours of two signals, whether their correlation is not training's."""
    return [_hour(np.random.default_rng([4, seed]), traffic, change) for seed in range(number)]


def _hour(random: np.random.Generator, traffic: Traffic, change: Effect) -> float:
    rows, training = traffic.draw(random, 60, 2), traffic.train(random, 2)
    rows = Rows(rows.minute, change(random, rows.values, np.zeros(1)))
    stream = study.Stream(rows, 60, training, lambda: rows, has_repeats=traffic.repeats)
    series = [Statistics(*each) for each in study.count(stream)]
    [(_, pair)] = study.pairs(stream, series)
    return float(pair.changed("1h", "training")[-1])


def test_a_correlation_that_halves_is_seen_in_99_of_100_hours() -> None:
    """From .6 to .3, in an hour of 3,600 independent rows; no marginal changes."""
    found = hours(Traffic("correlated", correlation=0.6), decorrelate(0.6, 0.3))

    assert np.mean(np.array(found) == 1) >= 0.99


@pytest.mark.parametrize("arrive", [singly, in_bursts, in_succession, over_the_hour])
def test_a_correlation_that_stays_is_no_drift_in_any_hour(arrive: Arrivals) -> None:
    """Nor is it with dependent rows."""
    found = hours(Traffic("correlated", arrive=arrive, correlation=0.6))

    assert 1 not in found
    assert np.mean(np.isfinite(found)) > 0.8


def test_heavy_tails_are_no_drift_of_a_correlation() -> None:
    """With a kurtosis of 36, in training and now: the bundle's variance allows for it."""
    found = hours(HeavyTails("heavy tails", correlation=0.6))

    assert 1 not in found
    assert np.mean(np.isfinite(found)) > 0.3
