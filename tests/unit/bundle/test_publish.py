"""A new bundle takes its name in one step, and only if it can be read."""

import shutil
from pathlib import Path

import pytest

from bundle.load import BundleError, load_manifest
from bundle.publish import publish
from tests.support.bundles import edit_manifest


@pytest.fixture(name="built")
def _built(example_bundle: Path, tmp_path: Path) -> Path:
    """Return a bundle that was just built."""
    return Path(shutil.copytree(example_bundle, tmp_path / "built"))


def test_a_name_stands_for_the_directory_of_a_version(built: Path, tmp_path: Path) -> None:
    """Nothing is left where it was built."""
    version = publish(built, tmp_path / "bundle")

    assert (tmp_path / "bundle").resolve() == version
    assert load_manifest(tmp_path / "bundle").version in version.name
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "bundle-versions"}


def test_another_bundle_leaves_the_earlier_one_as_it_was(built: Path, tmp_path: Path) -> None:
    """Who reads the earlier directory reads on; the name stands for the new one."""
    again = Path(shutil.copytree(built, tmp_path / "again"))
    edit_manifest(again, rows=999)
    first = publish(built, tmp_path / "bundle")
    second = publish(again, tmp_path / "bundle")

    assert first != second
    assert load_manifest(tmp_path / "bundle").rows == 999
    assert load_manifest(first).rows != 999


def test_the_same_bundle_has_one_directory(built: Path, tmp_path: Path) -> None:
    """Training again changes nothing, not even while the directory is being read."""
    again = Path(shutil.copytree(built, tmp_path / "again"))
    first = publish(built, tmp_path / "bundle")
    inode = first.stat().st_ino

    assert publish(again, tmp_path / "bundle") == first
    assert first.stat().st_ino == inode
    assert not again.exists()


def test_a_corrupt_bundle_gets_no_name(built: Path, tmp_path: Path) -> None:
    """The name stands for what it stood for."""
    corrupt = Path(shutil.copytree(built, tmp_path / "corrupt"))
    (corrupt / "model.joblib").write_bytes(b"half")
    first = publish(built, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"model\.joblib is corrupt"):
        publish(corrupt, tmp_path / "bundle")

    assert (tmp_path / "bundle").resolve() == first


def test_a_directory_of_an_earlier_release_becomes_a_version(built: Path, tmp_path: Path) -> None:
    """A bundle that was written to the name itself is kept."""
    old = Path(shutil.copytree(built, tmp_path / "bundle"))
    edit_manifest(built, rows=999)
    publish(built, old)

    assert old.is_symlink()
    assert load_manifest(old).rows == 999
    assert len(list((tmp_path / "bundle-versions").iterdir())) == 2
