#!/usr/bin/env bash
# Run the unit and service tiers on the Python of our images, beside the one of .venv.
#
# In a container, with this machine's Prometheus: the checkout is mounted read-only, so whatever a
# test writes there fails it. Tests that need what the container lacks say so and are skipped.
set -euo pipefail

image=$(sed -n 's/^python=//p' .ci/base-images.sh)
mounts=(--volume "$PWD:/src:ro")
for program in prometheus promtool; do
  path=$(command -v "$program") && mounts+=(--volume "$path:/usr/local/bin/$program:ro")
done

docker run --rm --init --network host --workdir /src "${mounts[@]}" \
  --env PYTHONDONTWRITEBYTECODE=1 --env PIP_ROOT_USER_ACTION=ignore "$image" sh -euc '
  python -m venv /venv
  /venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
    --require-hashes -r requirements-dev.txt
  /venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
    --require-hashes -r services/publisher/requirements.txt
  /venv/bin/python --version
  exec /venv/bin/python -m pytest -q -p no:cacheprovider tests/unit tests/service
'
