#!/usr/bin/env bash
# Run the unit and service tiers on the Python of our images, beside the one of .venv.
#
# In a container, with this machine's Prometheus and OpenMP. The checkout is mounted read-only, so
# whatever a test writes there fails it; only var, for what tests install, is the container's own.
# Tests that need what the container lacks say so and are skipped. Those of a running publisher wait
# for minutes; the container tier runs its image, which has this Python.
set -euo pipefail

image=$(sed -n 's/^python=//p' .ci/base-images.sh)
mounts=(--volume "$PWD:/src:ro")
for program in prometheus promtool; do
  path=$(command -v "$program") && mounts+=(--volume "$path:/usr/local/bin/$program:ro")
done
openmp=$(ldconfig -p | sed -n 's|.*libgomp.so.1 .*=> ||p' | head -n 1)
[ -z "$openmp" ] || mounts+=(--volume "$openmp:/usr/local/lib/libgomp.so.1:ro")
mkdir -p var

docker run --rm --init --network host --workdir /src "${mounts[@]}" \
  --tmpfs /src/var:exec --env LD_LIBRARY_PATH=/usr/local/lib \
  --env PYTHONDONTWRITEBYTECODE=1 --env PIP_ROOT_USER_ACTION=ignore "$image" sh -euc '
  python -m venv /venv
  /venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
    --require-hashes -r requirements-dev.txt
  /venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
    --require-hashes -r services/publisher/requirements.txt
  /venv/bin/python --version
  exec /venv/bin/python -m pytest -q -p no:cacheprovider tests/unit tests/service \
    --ignore-glob="*/service/test_publisher_*"
'
