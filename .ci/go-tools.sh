#!/usr/bin/env bash
# Get what checks the manifests, beside the tests' own schemas: kube-score, and the modules that
# hold published schemas.
set -euo pipefail

go install github.com/zegl/kube-score/cmd/kube-score@v1.20.0
go mod download \
  github.com/kserve/kserve@v0.16.0 \
  github.com/prometheus-operator/prometheus-operator@v0.93.1 \
  sigs.k8s.io/gateway-api@v1.4.1
