"""Exit with 0 if 127.0.0.1:PORT/PATH answers 200: the health check of images without curl."""  # noqa: INP001 a script

import http.client
import sys


def main(port: str, path: str) -> str | None:
    """Return the reason why the check fails, or None if it succeeds."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=3)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error}"
    return None if status == http.HTTPStatus.OK else f"{path}: status {status}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
