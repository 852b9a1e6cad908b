"""A checkout that was made with a strict umask: containers cannot read it, and `up` says so."""

from pathlib import Path

import pytest

from tools.stack import readable


@pytest.fixture(name="checkout")
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(readable, "ROOT", tmp_path)
    for name in ("examples", "grafana", "prometheus", "services", "var/bundle"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("")
        (tmp_path / name / "file").chmod(0o644)
    return tmp_path


def test_a_checkout_that_all_can_read_needs_nothing(checkout: Path) -> None:
    """Files that Python caches do not count: no container uses them."""
    cached = checkout / "services" / "__pycache__" / "module.pyc"
    cached.parent.mkdir()
    cached.touch(0o600)

    assert readable.advice(checkout / "var" / "bundle") is None


@pytest.mark.parametrize("directory", ["prometheus", "var/bundle"])
def test_a_private_file_is_named_with_the_remedy(checkout: Path, directory: str) -> None:
    """The command names all directories: one private file is seldom alone."""
    (checkout / directory / "file").chmod(0o600)

    assert readable.advice(checkout / "var" / "bundle") == (
        f"containers run as other users, who cannot read all of this checkout, such as"
        f" {directory}/file: chmod -R go+rX examples grafana prometheus services var/bundle"
    )
