#!/bin/sh
# Start Grafana ("$@", or the image's /run.sh) without a default administrator password. It is
# GF_SECURITY_ADMIN_PASSWORD or the content of the file GF_SECURITY_ADMIN_PASSWORD__FILE; otherwise
# one is generated on the first start and stored in $GF_PATHS_DATA/admin-password.
# Grafana applies the password only when it creates its database.
set -eu

if [ -n "${GF_SECURITY_ADMIN_PASSWORD:-}" ]; then
  unset GF_SECURITY_ADMIN_PASSWORD__FILE
else
  file=${GF_SECURITY_ADMIN_PASSWORD__FILE:-}
  if [ -z "$file" ]; then
    file=${GF_PATHS_DATA:?must be set}/admin-password
    if [ ! -s "$file" ]; then
      mkdir -p "$GF_PATHS_DATA"
      # 24 random bytes give 32 characters; the file is renamed into place, so it is never partial.
      (umask 077 && head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$file.new")
      mv "$file.new" "$file"
    fi
  elif [ ! -r "$file" ]; then
    echo "grafana: cannot read GF_SECURITY_ADMIN_PASSWORD__FILE=$file" >&2
    exit 1
  fi
  # $__file makes Grafana itself read the file, so the password stays out of the environment. It
  # works outside the image too, whereas only the image's /run.sh supports …__FILE.
  unset GF_SECURITY_ADMIN_PASSWORD__FILE
  export GF_SECURITY_ADMIN_PASSWORD="\$__file{$file}"
fi

[ $# -gt 0 ] || set -- /run.sh
exec "$@"
