"""Predict with KServe's REST client."""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

request = json.load(sys.stdin)
rows, model, url = request["rows"], request["model"], request["url"]


def infer_request(values: Any) -> InferRequest:  # noqa: ANN401
    """Return a request with one matrix."""
    array = np.array(values, dtype=np.float64)
    matrix = InferInput("rows", list(array.shape), "FP64")
    matrix.set_data_from_numpy(array, binary_data=False)
    return InferRequest(model, [matrix])


async def error(values: Any) -> str:  # noqa: ANN401
    """Return the error that the client raises."""
    try:
        await client.infer(url, infer_request(values), model_name=model)
    except httpx.HTTPStatusError as raised:
        return str(raised)
    return "none"


async def talk() -> dict[str, Any]:
    """Return every answer."""
    values = [list(row.values()) for row in rows]
    answer = await client.infer(url, infer_request(values), model_name=model)
    outputs = {each.name: each.as_numpy().tolist() for each in answer.outputs}
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, model),
        "values": outputs[request["target"]],
        "ids": outputs["prediction_id"],
        "above": await error([*values[:-1], [*values[-1][:-1], 1e9]]),
    }


client = InferenceRESTClient(RESTConfig(protocol="v2"))
print(json.dumps(asyncio.run(talk())))  # noqa: T201
