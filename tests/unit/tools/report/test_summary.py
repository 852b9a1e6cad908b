"""The words of the report: ranked, plain, and about the statistic that the bundle chose."""

import re

import pytest

from tests.support.report import Answers, at
from tools.report.changes import Change
from tools.report.client import Series
from tools.report.summary import Summary, Verdict, as_markdown, summarize

LOANS = {"job": "model", "model": "loans", "version": "a"}
PRICES = {"job": "model", "model": "prices", "version": "b"}
# A step's summary is rejected as a whole when it is longer.
GITHUBS_LIMIT_BYTES = 1 << 20


class Stored(Answers):
    """Answers each query by the first word that is in it, others with nothing."""

    def instant(self, expr: str) -> list[Series]:
        """Return the answer."""
        found = (answer for word, answer in self._given.items() if word in expr)
        return next(found, [])


def texts(**answers: list[Series]) -> list[str]:
    """Return what changed, in order."""
    named = {name.replace("__", ":", 1): answer for name, answer in answers.items()}
    return [each.text for each in summarize([], Stored(named)).changes]


def test_a_classification_is_judged_by_the_statistic_that_its_bundle_chose() -> None:
    """An accuracy in percent and as a multiple of the errors that were promised."""
    accuracy = {**LOANS, "statistic": "accuracy"}

    [line] = texts(
        model__loss_excess=[at(4.2, **accuracy)],
        model__promised_headline=[at(0.989, **accuracy)],
        model__headline=[at(0.813, **accuracy)],
    )

    assert line == (
        "By the labels of the last day, the accuracy of loans is 81.3 %; validation promised"
        " 98.9 %: at least 5.2 times as many errors as promised."
    )


@pytest.mark.parametrize(
    ("statistic", "words"),
    [
        (
            "log_loss",
            "the log loss of prices is 0.6; validation promised 0.5: worse by at least 15 %.",
        ),
        (
            "macro_f1",
            "the macro F1 of prices is 0.6; validation promised 0.5: at least 1.15 times as",
        ),
        ("mae", "the mean absolute error of prices is 0.6; validation promised 0.5: worse by at"),
        ("rmse", "the root mean squared error of prices is 0.6; validation promised 0.5: worse by"),
    ],
)
def test_each_statistic_has_its_name_and_its_words(statistic: str, words: str) -> None:
    """None is called an error that is a score, or the reverse; all fit into one sentence."""
    labels = {**PRICES, "statistic": statistic}

    [line] = texts(
        model__loss_excess=[at(0.15, **labels)],
        model__promised_headline=[at(0.5, **labels)],
        model__headline=[at(0.6, **labels)],
    )

    assert words in line


@pytest.mark.parametrize(
    ("rows", "effective", "reason"),
    [
        (
            5745,
            69.03,
            (
                "The 5,745 rows of the last hour say as much as 69 independent ones, because they"
                " repeat or come in clusters; a verdict needs 200."
            ),
        ),
        (5745, 245, "Nothing: inputs and predictions are as in training, and no alert fires."),
        (150, 20, "Nothing: inputs and predictions are as in training, and no alert fires."),
    ],
)
def test_rows_that_repeat_explain_why_there_is_no_verdict(
    rows: float, effective: float, reason: str
) -> None:
    """With rows enough that are independent, or with few rows at all, nothing is said."""
    query = "max by (job, model, version) (model_feature:"
    answers = {
        f"{query}rows": [at(rows, **LOANS)],
        f"{query}effective_rows": [at(effective, **LOANS)],
    }

    assert [each.text for each in summarize([], Stored(answers)).changes] == [reason]


def test_what_is_to_be_expected_is_said_until_there_are_labels() -> None:
    """For a classification its accuracy, for a regression its error; labels go before."""
    waiting = texts(
        model__expected_accuracy=[at(0.9, **LOANS)],
        model__expected_mae=[at(0.7, **PRICES)],
        model__promised_mae=[at(0.5, **PRICES)],
        model_validation_error=[at(0.989, **LOANS)],
    )
    [labelled] = texts(
        model__loss_excess=[at(4.2, **LOANS, statistic="accuracy")],
        model__expected_accuracy=[at(0.9, **LOANS)],
    )

    assert waiting == [
        (
            "Without labels, loans is estimated to have an accuracy of 90 %;"
            " validation promised 98.9 %."
        ),
        (
            "Without labels, prices is estimated to have a mean absolute error of 0.7;"
            " validation promised 0.5."
        ),
    ]
    assert labelled.startswith("By the labels")


def _drifted(count: int) -> dict[str, list[Series]]:
    signals = [{**PRICES, "feature": f"f{number:04}"} for number in range(count)]
    return {
        "model_feature__verdict{window": [at(1, **each) for each in signals],
        "model_feature__psi{": [at(1 + n / count, **each) for n, each in enumerate(signals)],
        "model_feature__mean_shift_sigma": [at(0.04, **each) for each in signals],
    }


def test_signals_are_ranked_and_the_rest_is_counted() -> None:
    """A person reads a dozen lines, of 2,000 features as well; a mean that stays is left out."""
    lines = texts(**_drifted(2000))

    assert len(lines) == 13
    assert lines[0].startswith("f1999 has drifted: PSI 2.00 (")
    assert lines[-1] == "1988 more signals have drifted."
    assert not any("mean" in line for line in lines)


def test_psi_is_explained_where_it_is_used() -> None:
    """To somebody who opens a mailed report; not where nothing drifted."""
    drifted = summarize(
        [], Stored({"model_feature:verdict{window": [at(1, **PRICES, feature="x")]})
    )

    assert drifted.legend.startswith("PSI (population stability index)")
    assert summarize([], Stored({})).legend == ""


FINE = [("Inputs", "none", "green"), ("Accuracy", "as promised", "green")]


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        (
            [Verdict("loans", "a", "works as in training", "green", FINE)],
            "**loans** `a` works as in training",
        ),
        ([], "No model answers."),
    ],
)
def test_the_summary_is_markdown_for_a_pull_request(verdicts: list[Verdict], line: str) -> None:
    """It has the verdict, the answers as a table, and what changed as a list."""
    text = as_markdown(Summary(verdicts, [Change(1, "x has drifted.", "red", "#ml-drift")]))

    assert line in text.splitlines()
    assert "1. x has drifted." in text.splitlines()
    _check_tables(text)


def test_names_cannot_break_the_markdown() -> None:
    """A feature `a|b_*` neither ends a cell nor begins a format, and HTML stays text."""
    verdict = Verdict("a|b", "v", "works <b>", "green", [("In|puts", "a|b", "red")])
    text = as_markdown(Summary([verdict], [Change(1, "_x*_ <img> has drifted.", "red", "#")]))

    _check_tables(text)
    assert "1. \\_x\\*\\_ \\<img\\> has drifted." in text.splitlines()
    assert not re.search(r"(?<!\\)[<>]", text)


def test_the_summary_of_many_features_is_short_enough_for_github() -> None:
    """With 2,000 features and 50 versions that have drifted, it is far below 1 MiB."""
    verdicts = [Verdict("m", f"v{n}", "works as in training", "green", FINE) for n in range(50)]
    changes = summarize([], Stored(_named(_drifted(2000)))).changes

    assert len(as_markdown(Summary(verdicts, changes)).encode()) < GITHUBS_LIMIT_BYTES / 20


def _named(answers: dict[str, list[Series]]) -> dict[str, list[Series]]:
    return {name.replace("__", ":", 1): answer for name, answer in answers.items()}


def _check_tables(text: str) -> None:
    """Every row of a table has as many cells as its head, and a blank line goes before it."""
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        if rows:
            assert rows == block.splitlines()
            assert rows[1].replace(" ", "").strip("|-") == ""
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
