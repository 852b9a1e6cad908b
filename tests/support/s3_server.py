"""An S3 server on 127.0.0.1: `python s3_server.py PORT BUCKET`, in the environment of moto.

Each line on stdin is answered by one on stdout: `stop` closes the port, `start` opens it again.
Objects stay meanwhile.
"""

import sys

import boto3
from moto.server import ThreadedMotoServer


def main(port: int, bucket: str) -> None:
    """Serve until stdin ends."""
    server = start(port)
    boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 any is accepted
    ).create_bucket(Bucket=bucket)
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        if line.strip() == "stop":
            server.stop()
        else:
            server = start(port)
        print(line.strip(), flush=True)  # noqa: T201


def start(port: int) -> ThreadedMotoServer:
    """Return a server that accepts connections."""
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return server


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
