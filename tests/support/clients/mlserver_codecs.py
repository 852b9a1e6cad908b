"""Predict with the requests that MLServer's codecs write, and read the answer with its types."""

import json
import sys
import urllib.request
from typing import Any

import numpy as np
import pandas as pd
from mlserver.codecs import NumpyRequestCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse

request = json.load(sys.stdin)
frame = pd.DataFrame(request["rows"])
path = f"{request['url']}/v2/models/{request['model']}"


def infer(inference: InferenceRequest) -> dict[str, Any]:
    """Return the columns of the answer as a data frame."""
    sent = urllib.request.Request(f"{path}/infer", inference.model_dump_json().encode())  # noqa: S310
    with urllib.request.urlopen(sent) as response:  # noqa: S310
        answer = InferenceResponse.model_validate_json(response.read())
    decoded: dict[str, Any] = PandasCodec.decode_response(answer).to_dict("list")
    return decoded


with urllib.request.urlopen(path) as described:  # noqa: S310
    metadata = MetadataModelResponse.model_validate_json(described.read())
print(  # noqa: T201
    json.dumps(
        {
            "inputs": [each.name for each in metadata.inputs or []],
            "frame": infer(PandasCodec.encode_request(frame)),
            "matrix": infer(NumpyRequestCodec.encode_request(frame.to_numpy(np.float64))),
        }
    )
)
