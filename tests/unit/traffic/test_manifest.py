"""The reader of `bundle.json` for the traffic."""

import json
from pathlib import Path

import pytest

from bundle.manifest import Manifest as BundleManifest
from traffic.errors import TrafficError
from traffic.manifest import read_manifest


def test_it_agrees_with_the_reader_of_the_service(
    example: BundleManifest, example_bundle: Path
) -> None:
    """Target, features, ranges, standard deviations and files are equal."""
    manifest = read_manifest(example_bundle)

    assert (manifest.name, manifest.target) == (example.name, example.target.name)
    assert manifest.files == set(example.files)
    assert [
        (each.name, each.type, each.nullable, each.minimum, each.maximum, each.sigma)
        for each in manifest.features
    ] == [
        (
            feature.name,
            feature.type,
            feature.nullable,
            feature.minimum,
            feature.maximum,
            reference.sigma,
        )
        for feature, reference in zip(example.features, example.reference, strict=False)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a valid manifest: "),
        ("[]", "is not a valid manifest: "),
        ("{}", "'format' is missing"),
        (json.dumps({"format": 99}), "has format 99; this client reads 1"),
        (json.dumps({"format": 1, "reference": 3}), "is not a valid manifest: "),
    ],
)
def test_the_error_of_an_invalid_bundle_is_one_line(
    text: str, message: str, tmp_path: Path
) -> None:
    """The line names the file and the reason."""
    (tmp_path / "bundle.json").write_text(text)

    with pytest.raises(TrafficError) as error:
        read_manifest(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "bundle.json"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_error_of_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    """The line names the directory."""
    with pytest.raises(TrafficError, match=r"^no bundle at .*/nowhere: bundle.json: No such file"):
        read_manifest(tmp_path / "nowhere")
