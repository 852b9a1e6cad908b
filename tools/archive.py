"""Pack a bundle into an archive for MODEL_BUNDLE_URL, and print its SHA-256.

    ./task archive -- [BUNDLE] [ARCHIVE]

Without arguments, var/bundle goes into bundle.tar.gz. The same bundle gives the same bytes.
"""

import argparse
import gzip
import hashlib
import os
import sys
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from bundle.load import BundleError, load_manifest
from bundle.manifest import MANIFEST_FILE, TRAINED_AT_FILE
from tools import ROOT, command


def pack(bundle: Path) -> bytes:
    """Return a .tar.gz of a bundle's files, without owners and times. Raises BundleError."""
    names = {*load_manifest(bundle).files, MANIFEST_FILE}
    names |= {TRAINED_AT_FILE} & {each.name for each in bundle.iterdir()}
    buffer = BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(names):
            content = (bundle / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return buffer.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the archive; return 1 if there is no bundle or it cannot be written."""
    parser = argparse.ArgumentParser("./task archive --", description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=_path, nargs="?", default=ROOT / "var" / "bundle")
    parser.add_argument("archive", type=_path, nargs="?", default=_path("bundle.tar.gz"))
    arguments = parser.parse_args(argv)
    try:
        content = pack(arguments.bundle)
        arguments.archive.write_bytes(content)
    except BundleError as error:
        print(f"archive: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"archive: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {arguments.archive}, {len(content) / 1e6:.1f} MB")
    print(f"MODEL_BUNDLE_SHA256={hashlib.sha256(content).hexdigest()}")
    return 0


def _path(text: str) -> Path:
    return Path(os.environ.get("USER_WORKING_DIR") or ".") / text


if __name__ == "__main__":
    command.run(main)
