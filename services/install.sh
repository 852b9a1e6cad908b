#!/bin/sh
# Install a lock into /venv, which has no pip, without the libraries' own tests: 60 MB of 300.
set -eu
python -m pip --python /venv/bin/python install --require-hashes -r "$1"
find /venv -type d -name tests -prune -exec rm -r {} +
