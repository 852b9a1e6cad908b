"""Give a new bundle its name: `python -m bundle.publish BUILT NAME`.

`NAME` is a symbolic link to the directory of one version, among others in `NAME-versions`. A
version's directory never changes, and the link changes in one step: whoever reads the name gets one
version in full, the old one or the new one. Old versions stay; remove them by hand.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from bundle.load import BundleError, load_manifest
from bundle.manifest import MANIFEST_FILE

_DIGITS = 8


def publish(built: Path, name: Path) -> Path:
    """Move a bundle to its version's directory, let `name` stand for it, and return it.

    Raises BundleError, after which `name` stands for what it stood for, and OSError.
    """
    version = _keep(built, name)
    if name.is_dir() and not name.is_symlink():
        _keep_old(name)
    unfinished = name.with_name(f".{name.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(version.relative_to(name.parent), target_is_directory=True)
    unfinished.replace(name)
    return version


def _keep(built: Path, name: Path) -> Path:
    """Move a bundle to its version's directory, unless the same bundle is there already."""
    manifest = load_manifest(built)
    # Bundles of one estimator have one version, but may differ in their reference.
    digest = hashlib.sha256((built / MANIFEST_FILE).read_bytes()).hexdigest()
    directory = name.with_name(f"{name.name}-versions") / f"{manifest.version}-{digest[:_DIGITS]}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        load_manifest(directory)
    except BundleError:
        # Missing, or left incomplete by somebody who was interrupted.
        shutil.rmtree(directory, ignore_errors=True)
        built.rename(directory)
    else:
        shutil.rmtree(built)
    return directory


def _keep_old(name: Path) -> None:
    """Make room for the link: the name was a directory, as in earlier releases."""
    try:
        _keep(name, name)
    except BundleError:
        # Nobody could serve it.
        shutil.rmtree(name)


def main() -> None:
    """Publish; a fault is one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("built", type=Path, help="a directory with a bundle, which is moved")
    parser.add_argument("name", type=Path, help="the name that readers use")
    arguments = parser.parse_args()
    try:
        publish(arguments.built, arguments.name)
    except (BundleError, OSError) as error:
        sys.exit(f"publish: {error}")


if __name__ == "__main__":
    main()
