# ruff: noqa: INP001, T201 a script in a ConfigMap that prints to its pod's log
"""Create the Secret `model-secrets` with a random key unless it exists; run as a Job."""

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
    """Create the Secret through the API server and describe the outcome.

    Raises urllib.error.URLError unless the Secret was created or exists.
    """
    request = urllib.request.Request(  # noqa: S310 the API server's address, not a user's
        f"{api}/api/v1/namespaces/{namespace}/secrets",
        data=json.dumps(secret(NAME)).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context):  # noqa: S310
            return "was created"
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.CONFLICT:
            return "already exists and is unchanged"
        raise


def trust(authority: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts only this certificate authority."""
    context = ssl.create_default_context(cafile=str(authority))
    # The default since Python 3.13, but certificates of clusters often lack a key identifier.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def main() -> None:
    """Create the Secret with the pod's service account."""
    token = (ACCOUNT / "token").read_text()
    namespace = (ACCOUNT / "namespace").read_text()
    try:
        outcome = create(API, namespace, token, trust(ACCOUNT / "ca.crt"))
    except OSError as error:  # URLError or a timeout
        sys.exit(f"Secret {NAME} was not created: {error}")
    print(f"Secret {NAME} {outcome}")


if __name__ == "__main__":
    main()
