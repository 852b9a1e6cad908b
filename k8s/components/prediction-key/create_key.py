# ruff: noqa: INP001, T201 a script in a ConfigMap, which tells its pod's log what it did
"""Create the Secret `model-secrets` with a random key, unless there is one; run as a Job."""

import json
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

API = "https://kubernetes.default.svc"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAME = "model-secrets"


def secret(name: str) -> dict[str, object]:
    """Return a new Secret with a key of 256 random bits."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "ml-monitoring"}},
        "stringData": {"MODEL_PREDICTION_KEYS": secrets.token_hex(32)},
    }


def create(api: str, namespace: str, token: str, context: ssl.SSLContext | None) -> str:
    """Ask the API server for a new Secret and return what became of it.

    Raises urllib.error.URLError for any answer but "created" and "exists".
    """
    request = urllib.request.Request(  # noqa: S310 the API server's address, not a user's
        f"{api}/api/v1/namespaces/{namespace}/secrets",
        data=json.dumps(secret(NAME)).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context):  # noqa: S310
            return "created"
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.CONFLICT:
            return "exists already and stays as it is"
        raise


def trust(authority: Path) -> ssl.SSLContext:
    """Return what verifies the API server: by this authority and no other."""
    context = ssl.create_default_context(cafile=str(authority))
    # Default since Python 3.13, but clusters' own certificates often lack a key identifier.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def main() -> None:
    """Create the Secret with what Kubernetes gives every pod that may talk to it."""
    token = (ACCOUNT / "token").read_text()
    namespace = (ACCOUNT / "namespace").read_text()
    try:
        outcome = create(API, namespace, token, trust(ACCOUNT / "ca.crt"))
    except OSError as error:  # URLError, a time-out
        sys.exit(f"Secret {NAME} was not created: {error}")
    print(f"Secret {NAME} {outcome}")


if __name__ == "__main__":
    main()
