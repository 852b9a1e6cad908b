"""Predict with MLflow's scoring client."""

import json
import sys
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

request = json.load(sys.stdin)
rows = request["rows"]
address = urlsplit(request["url"])
client = ScoringServerClient(address.hostname, address.port)
frame = pd.DataFrame(rows)


def error(data: Any) -> str:  # noqa: ANN401
    """Return the error that the client raises."""
    try:
        client.invoke(data)
    except Exception as raised:  # noqa: BLE001 the client raises no narrower one
        return str(raised)
    return "none"


client.wait_server_ready()
answers = {
    "dataframe_split": client.invoke(frame),
    "inputs_array": client.invoke(frame.to_numpy()),
    "inputs_records": client.invoke(rows),
    "dataframe_records": client.invoke(json.dumps({"dataframe_records": rows})),
    "instances": client.invoke(json.dumps({"instances": rows})),
    "inputs_columns": client.invoke(json.dumps({"inputs": frame.to_dict("list")})),
}
print(  # noqa: T201
    json.dumps(
        {
            "version": client.get_version(),
            "answers": answers,
            "frame": answers["dataframe_split"].get_predictions().iloc[:, 0].tolist(),
            "above": error(frame.assign(**{frame.columns[-1]: 1e9})),
        }
    )
)
