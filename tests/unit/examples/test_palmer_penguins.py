"""The vendored penguins, their split, and the classifier that is trained on them."""

import re
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

import example as command
from bundle.encode import Encoder
from bundle.frames import cells
from bundle.load import load_bundle
from bundle.manifest import Manifest
from palmer_penguins.data import TARGET, rows, split
from palmer_penguins.train import NAME, train
from tools import ROOT

PENGUINS = rows()
TRAIN, HELD_OUT = split(PENGUINS)


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Return the bundle's directory and manifest."""
    output = tmp_path_factory.mktemp("penguins") / "bundle"
    return output, train(output)


def test_all_penguins_are_present() -> None:
    """The numbers of each species are those of the paper's data, with 11 unknown sexes."""
    assert PENGUINS[TARGET].value_counts().to_dict() == {
        "Adelie": 152,
        "Chinstrap": 68,
        "Gentoo": 124,
    }
    assert PENGUINS.isna().sum()[["bill_length_mm", "body_mass_g", "sex"]].tolist() == [2, 2, 11]


def test_the_split_loses_no_penguin() -> None:
    """Each is in one part, and a fifth of each species is held out."""
    assert sorted([*TRAIN.index, *HELD_OUT.index]) == [*PENGUINS.index]
    shares = HELD_OUT[TARGET].value_counts() / PENGUINS[TARGET].value_counts()
    assert shares.to_numpy() == pytest.approx(0.2, abs=0.01)


def test_every_feature_is_described(built: tuple[Path, Manifest]) -> None:
    """Each has a meaning; measurements have a unit and may be missing, categories their values."""
    for feature in built[1].features:
        assert feature.description
        if feature.type == "category":
            assert set(feature.categories) == set(TRAIN[feature.name].dropna())
        else:
            assert (bool(feature.unit), feature.minimum, feature.nullable) == (True, 0, True)


def test_the_compiled_classifier_is_scikit_learns(built: tuple[Path, Manifest]) -> None:
    """Probabilities of the held-out penguins are equal to 1e-12, and so is their accuracy."""
    output, manifest = built
    sent = cells(HELD_OUT, manifest.features)
    outputs = load_bundle(output).model.predict(sent, Encoder(manifest.features).codes(sent))
    fitted = joblib.load(output / "model.joblib")

    expected = fitted.predict_proba(HELD_OUT.drop(columns=TARGET))
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)
    accuracy = fitted.score(HELD_OUT.drop(columns=TARGET), HELD_OUT[TARGET])
    assert manifest.validation.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert "program.npy" in manifest.files


def test_the_model_card_has_the_figures(built: tuple[Path, Manifest]) -> None:
    """Accuracy, F1 and log-loss of both lines are those of the bundle."""
    card = (ROOT / "examples/palmer_penguins/README.md").read_text("utf-8")
    found = built[1].validation

    for label, prefix in (("5-fold cross-validation", "cv_"), ("held-out penguins", "")):
        names = (f"{prefix}{name}" for name in ("accuracy", "macro_f1", "log_loss"))
        figures = " | ".join(f"{getattr(found, name):.3f}" for name in names)
        assert re.search(rf"\| {label} \| {re.escape(figures)} \|", card), figures


def test_the_traffic_has_the_held_out_penguins(built: tuple[Path, Manifest]) -> None:
    """Their values are as they were, and what is missing is empty."""
    table = pd.read_csv(built[0] / "held_out.csv")

    columns = [*table]
    pd.testing.assert_frame_equal(table, HELD_OUT[columns].reset_index(drop=True))


def test_a_bundle_of_ones_own_is_not_replaced(
    built: tuple[Path, Manifest],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command replaces bundles of examples only, and says whose bundle stays."""
    path = built[0] / "bundle.json"
    text = path.read_text("utf-8")
    assert command.other_model(built[0]) is None
    path.write_text(text.replace(f'"name": "{NAME}"', '"name": "mine"'), "utf-8")

    monkeypatch.setattr("sys.argv", ["example", "--publish", "--output", str(built[0])])
    command.main()

    assert "holds the bundle of mine, which stays" in capsys.readouterr().out
    assert '"name": "mine"' in path.read_text("utf-8")
    path.write_text(text, "utf-8")


def test_an_example_is_published_as_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is a link to the version's directory, beside which older ones stay."""
    monkeypatch.setenv("EXAMPLE", "palmer_penguins")
    monkeypatch.setattr("sys.argv", ["example", "--publish", "--output", str(tmp_path / "bundle")])
    command.main()

    assert (tmp_path / "bundle").is_symlink()
    assert load_bundle(tmp_path / "bundle").manifest.name == NAME
