#!/usr/bin/env bash
# start: start a Docker engine where none answers. stop: end the one that start started.
set -euo pipefail
pid_file=var/ci/dockerd.pid
log=var/ci/dockerd.log

start() {
  ! docker info >/dev/null 2>&1 || return 0
  mkdir -p var/ci
  dockerd >"$log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  for _ in $(seq 120); do
    ! docker info >/dev/null 2>&1 || return 0
    kill -0 "$(<"$pid_file")" 2>/dev/null || break
    sleep 0.5
  done
  echo "ci: dockerd does not answer; the end of its log:" >&2
  tail -n 20 "$log" >&2
  return 1
}

stop() {
  [ -e "$pid_file" ] || return 0
  local pid
  pid=$(<"$pid_file")
  rm "$pid_file"
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 120); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.5
  done
  echo "ci: dockerd (pid $pid) does not end" >&2
}

"$1"
