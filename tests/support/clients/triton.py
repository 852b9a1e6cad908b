"""Predict with tritonclient: one tensor per feature, with and without compression, or a matrix."""

import json
import sys
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

request = json.load(sys.stdin)
rows, model, target = request["rows"], request["model"], request["target"]
client = InferenceServerClient(request["url"].removeprefix("http://"))


def tensor(name: str, values: Any, *, binary: bool = False) -> InferInput:  # noqa: ANN401
    """Return an input with the values of an array."""
    array = np.array(values, dtype=np.float64)
    made = InferInput(name, list(array.shape), "FP64")
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def infer(inputs: list[InferInput], **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return predictions, ids and the request's id."""
    answer = client.infer(model, inputs, request_id="42", **options)
    return {
        "values": answer.as_numpy(target).tolist(),
        "ids": answer.as_numpy("prediction_id").tolist(),
        "id": answer.get_response()["id"],
    }


def error(inputs: list[InferInput], name: str = model, **options: Any) -> str:  # noqa: ANN401
    """Return the error that the client raises."""
    try:
        client.infer(name, inputs, **options)
    except InferenceServerException as raised:
        return f"{raised.status()} {raised.message()}"
    return "none"


names = list(rows[0])
by_feature = [tensor(name, [row[name] for row in rows]) for name in names]
columns = [tensor(name, [[row[name]] for row in rows]) for name in names]
matrix = [tensor("rows", [list(row.values()) for row in rows])]
only_target = [InferRequestedOutput(target, binary_data=False)]
print(  # noqa: T201
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "other_ready": client.is_model_ready("another"),
            "server": client.get_server_metadata(),
            "model": client.get_model_metadata(model, request["version"]),
            "by_feature": infer(by_feature),
            "columns": infer(columns, model_version=request["version"]),
            "matrix": infer(matrix),
            "gzip": infer(matrix, request_compression_algorithm="gzip"),
            "deflate": infer(matrix, request_compression_algorithm="deflate"),
            "requested": [
                each["name"]
                for each in client.infer(model, matrix, outputs=only_target).get_response()[
                    "outputs"
                ]
            ],
            "above": error([*by_feature[:-1], tensor(names[-1], [1e9] * len(rows))]),
            "another": error(matrix, "another"),
            "version": error(matrix, model_version="7"),
            "binary": error([tensor("rows", [[1.0] * len(names)], binary=True)]),
        }
    )
)
