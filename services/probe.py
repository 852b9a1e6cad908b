"""Exit 0 when 127.0.0.1:PORT/PATH answers 200: the images' health check, as they hold no curl."""  # noqa: INP001 a script

import http.client
import sys


def main(port: str, path: str) -> str | None:
    """Return what is wrong, or None."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=3)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error}"
    return None if status == http.HTTPStatus.OK else f"{path}: status {status}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
