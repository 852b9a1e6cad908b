#!/bin/sh
# Install a lock file into /venv, which has no pip, and remove the libraries' tests (60 of 300 MB).
set -eu
python -m pip --python /venv/bin/python install --require-hashes -r "$1"
find /venv -type d -name tests -prune -exec rm -r {} +
