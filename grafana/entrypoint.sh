#!/bin/sh
# Start Grafana ("$@", or the image's /run.sh) with an administrator's password that has no default:
# the given one (GF_SECURITY_ADMIN_PASSWORD, or a file named by GF_SECURITY_ADMIN_PASSWORD__FILE)
# wins, else one is made on the first start and kept in $GF_PATHS_DATA/admin-password.
# Grafana itself takes any of them only while its database is new.
set -eu

if [ -n "${GF_SECURITY_ADMIN_PASSWORD:-}" ]; then
  unset GF_SECURITY_ADMIN_PASSWORD__FILE
else
  file=${GF_SECURITY_ADMIN_PASSWORD__FILE:-}
  if [ -z "$file" ]; then
    file=${GF_PATHS_DATA:?must be set}/admin-password
    if [ ! -s "$file" ]; then
      mkdir -p "$GF_PATHS_DATA"
      # 24 random bytes make 32 characters; renamed into place, so never half written.
      (umask 077 && head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$file.new")
      mv "$file.new" "$file"
    fi
  elif [ ! -r "$file" ]; then
    echo "grafana: cannot read GF_SECURITY_ADMIN_PASSWORD__FILE=$file" >&2
    exit 1
  fi
  # Grafana reads the file itself, in the image and without it (only /run.sh knows …__FILE), and
  # the password stays out of the environment.
  unset GF_SECURITY_ADMIN_PASSWORD__FILE
  export GF_SECURITY_ADMIN_PASSWORD="\$__file{$file}"
fi

[ $# -gt 0 ] || set -- /run.sh
exec "$@"
