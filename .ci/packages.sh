#!/usr/bin/env bash
# Install the Debian packages that the tests need and this machine lacks.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# The packages still needed from the machine's own suite.
own_packages() {
  local program
  for program in prometheus prometheus-alertmanager iptables mmdebstrap chromium curl; do
    command -v "$program" >/dev/null || echo "$program"
  done
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  ldconfig -p | grep libgomp.so.1 >/dev/null || echo libgomp1 # LightGBM's
}

# The packages still needed from trixie: Compose v2, buildx, the engine that fits them, kustomize, Go.
trixie_packages() {
  command -v kustomize >/dev/null || echo kustomize
  command -v go >/dev/null || echo golang-go # 1.23 or newer, for go-tools.sh
  has_docker || echo docker.io docker-cli docker-compose docker-buildx
}

has_docker() {
  { docker info || command -v dockerd; } && docker compose version && docker buildx version
} >/dev/null 2>&1

# A packaged server must not start by itself: the tests start their own, on the same ports.
forbid_services() {
  policy=/usr/sbin/policy-rc.d
  [ ! -e "$policy" ] || return 0
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
}

apt_install() {
  echo "ci: apt-get install $*"
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

mapfile -t own < <(own_packages)
read -ra trixie < <(trixie_packages | xargs) || true
if [ $((${#own[@]} + ${#trixie[@]})) -gt 0 ]; then
  .ci/trixie-sources.sh >/dev/null
  apt-get update -qq
  forbid_services
  [ ${#own[@]} -eq 0 ] || apt_install "${own[@]}"
  [ ${#trixie[@]} -eq 0 ] || apt_install --target-release trixie "${trixie[@]}"
fi
