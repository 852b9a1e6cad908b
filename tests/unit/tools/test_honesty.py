"""The simulation applies the formulas of the rules, and its tables show what it found."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.drift import drift
from tools import honesty

FILE = f"# Read me\n\n{honesty.START}\nold\n{honesty.END}\n\nThe rest.\n"


@pytest.fixture(name="few_trials", autouse=True)
def _few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use two thousand trials: enough to rank the rules."""
    monkeypatch.setattr(honesty, "TRIALS", 2000)
    honesty.trained.cache_clear()


@pytest.mark.parametrize("bins", [2, 3, 10, 11])
@pytest.mark.parametrize("rows", [150, 250, 4000])
def test_formulas_equal_those_that_promtool_is_compared_with(bins: int, rows: int) -> None:
    """PSI, noise, critical value and verdict equal tests/support/drift.py, as the rules' do."""
    rng = np.random.default_rng([bins, rows])
    reference = rng.multinomial(1282, np.full(bins, 1 / bins)).astype(float)
    counts = rng.multinomial(rows, rng.dirichlet(np.full(bins, 20.0)), size=30).astype(float)
    expected = [drift(row, reference) for row in counts]

    np.testing.assert_allclose(honesty.psi(counts, reference), [e.psi for e in expected])
    np.testing.assert_allclose(honesty.noise(counts, reference), [e.psi_noise for e in expected])
    np.testing.assert_allclose(
        honesty.critical(counts, reference), [e.psi_critical for e in expected]
    )
    assert honesty.verdict(counts, reference).tolist() == [e.verdict == 1 for e in expected]


@pytest.mark.parametrize("rows", honesty.SAMPLE_SIZES)
def test_verdict_rarely_alarms_without_drift(rows: int) -> None:
    """At most three windows in a thousand are reported, and always fewer than by the χ² test."""
    verdict, _, chi_squared = honesty.alarm_rates(rows)

    assert verdict <= 0.003
    assert verdict < chi_squared


@pytest.mark.parametrize("rows", [200, 500, 5000])
def test_verdict_finds_half_a_standard_deviation(rows: int) -> None:
    """From 200 rows on, a mean that moved by 0.5 σ is found in at least 90 % of the windows."""
    assert honesty.alarm_rates(rows, shift=0.5)[0] > 0.9


def test_training_rows_fall_evenly_into_deciles() -> None:
    """Each bin holds a tenth of the training rows, give or take one row."""
    edges, reference = honesty.trained()

    assert edges.shape == (2000, 9)
    assert reference.sum() == honesty.REFERENCE_ROWS
    assert set(reference) == {128.0, 129.0}


def test_same_seed_gives_the_same_rows() -> None:
    """The tables can be reproduced."""
    np.testing.assert_array_equal(honesty.serve(100, repeat=2), honesty.serve(100, repeat=2))


def test_repeating_rows_keeps_their_number() -> None:
    """A window of 100 rows holds 100 rows, each of ten distinct ones ten times."""
    assert set(honesty.serve(100, repeat=10).sum(axis=1)) == {100.0}


def test_report_is_written_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--write replaces what is between the markers and nothing else, however often it runs."""
    monkeypatch.setattr(honesty, "report", lambda: "new")
    file = tmp_path / "README.md"
    file.write_text(FILE)

    honesty.main(["--write", str(file)])
    honesty.main(["--write", str(file)])

    assert file.read_text() == FILE.replace("old", "new")


def test_file_without_markers_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names what is missing, and the file stays as it was."""
    monkeypatch.setattr(honesty, "report", lambda: "new")
    file = tmp_path / "README.md"
    file.write_text("# Read me\n")

    with pytest.raises(SystemExit, match=r"markers .* are missing"):
        honesty.main(["--write", str(file)])
    assert file.read_text() == "# Read me\n"


def test_tables_have_a_line_for_each_rule_and_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are three lines for each kind of traffic and for each shift."""
    monkeypatch.setattr(honesty, "alarm_rates", lambda *_, **__: [0.0012, 0.5, 1.0])
    lines = [line for line in honesty.report().splitlines() if line.startswith("|")]

    assert len(lines) == 2 * 2 + 3 * (len(honesty.REPEATS) + len(honesty.SHIFTS))
    assert lines[2] == "| independent rows | verdict | 0.12 | 0.12 | 0.12 | 0.12 | 0.12 |"
