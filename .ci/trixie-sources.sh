#!/usr/bin/env bash
# Print the files of apt sources that name Debian trixie.
#
# Where there are none they are made: copies of the machine's own, with trixie in place of its
# suite, and pinned so low that nothing comes from there unasked.
set -euo pipefail
shopt -s nullglob

# The files with a suite of the release $1, or of one of its kind (bookworm-updates).
naming() {
  grep -lE "[[:space:]]$1(-[a-z]+)?([[:space:]/]|\$)" \
    /etc/apt/sources.list.d/*.{list,sources} /etc/apt/sources.list 2>/dev/null || true
}

if [ -z "$(naming trixie)" ]; then
  # shellcheck source=/dev/null
  own=$(. /etc/os-release && echo "$VERSION_CODENAME")
  for file in $(naming "$own"); do
    sed "s/$own/trixie/g" "$file" >"/etc/apt/sources.list.d/trixie-$(basename "$file")"
  done
  printf 'Package: *\nPin: release n=trixie*\nPin-Priority: 50\n' >/etc/apt/preferences.d/trixie
fi
naming trixie
