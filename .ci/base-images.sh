#!/usr/bin/env bash
# Bring the images that compose.yaml and the Dockerfiles start from: pulled, or else stood in for.
#
# A stand-in is made of Debian trixie's packages and has the original's paths, user and entrypoint,
# and this machine's way to the wheels registry. There is none for Grafana, which Debian lacks: the
# test that needs its image is skipped, with that reason.
# shellcheck disable=SC2016 # a hook's $1 is for the hook
set -euo pipefail

python=python:3.13-slim-trixie
prometheus=prom/prometheus:v3.13.2
alertmanager=prom/alertmanager:v0.34.0
grafana=grafana/grafana:13.2.0

label=ci.stand-in
ca_bundle=/etc/ssl/certs/ca-certificates.crt

# Variables are found by name as well as by value: those that lead pip to its registry.
registry_environment() {
  env | grep -E "=$ca_bundle\$|=${ca_bundle%/*}\$|^PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST)=|^(https?|no)_proxy=" | sort || true
}

# What a stand-in was made of: one of another day's bundle or of older commands is rebuilt.
fingerprint=$({ cat "$0" "$ca_bundle" /etc/pip.conf 2>/dev/null || true; registry_environment; } | sha256sum | cut -c1-12)

present() {
  local made_of
  made_of=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null) || return 1
  [ -z "$made_of" ] || [ "$made_of" = "$fingerprint" ]
}

pulled() { docker pull --quiet "$1" >/dev/null 2>&1; }

# stand_in IMAGE PACKAGES HOOK [INSTRUCTION...]: HOOK is shell run with the new root as $1.
stand_in() {
  local image=$1 packages=$2 hook=$3 changes=() setting source
  shift 3
  while read -r setting; do
    [ -z "$setting" ] || changes+=(--change "ENV $setting")
  done < <(registry_environment)
  for setting in "LABEL $label=$fingerprint" "$@"; do changes+=(--change "$setting"); done
  mapfile -t source < <(.ci/trixie-sources.sh)
  mmdebstrap --quiet --variant=apt --include="ca-certificates,$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook="cp $ca_bundle \"\$1$ca_bundle\"" \
    --customize-hook="if [ -f /etc/pip.conf ]; then cp /etc/pip.conf \"\$1/etc\"; fi" \
    --customize-hook="$hook" trixie - "${source[@]}" |
    docker import "${changes[@]}" - "$image" >/dev/null
}

stand_in_python() {
  stand_in "$python" python3-pip,python3-venv 'ln -s python3 "$1/usr/bin/python"' 'CMD ["python3"]'
}

stand_in_prometheus() {
  stand_in "$prometheus" prometheus 'install -d -o 65534 -g 65534 "$1/prometheus"' \
    'USER nobody' 'EXPOSE 9090' 'VOLUME ["/prometheus"]' 'WORKDIR /prometheus' \
    'ENTRYPOINT ["/bin/prometheus"]' \
    'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]'
}

stand_in_alertmanager() {
  stand_in "$alertmanager" prometheus-alertmanager \
    'install -d -o 65534 -g 65534 "$1/alertmanager"; ln -s prometheus-alertmanager "$1/bin/alertmanager"' \
    'USER nobody' 'EXPOSE 9093' 'VOLUME ["/alertmanager"]' 'WORKDIR /alertmanager' \
    'ENTRYPOINT ["/bin/alertmanager"]' \
    'CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]'
}

for name in python prometheus alertmanager; do
  image=${!name}
  if present "$image" || pulled "$image"; then
    echo "ci: $image is there"
  else
    "stand_in_$name"
    echo "ci: $image cannot be pulled: a stand-in of Debian packages is there"
  fi
done
present "$grafana" || pulled "$grafana" ||
  echo "ci: $grafana cannot be pulled: the test that needs it is skipped"
