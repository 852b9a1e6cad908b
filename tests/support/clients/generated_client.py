"""Generate a typed client from the OpenAPI document, and predict and label with it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

request = json.load(sys.stdin)
directory = Path(request["directory"])
document = directory / "openapi.json"
document.write_bytes(httpx.get(f"{request['url']}/openapi.json").raise_for_status().content)
# The generator formats what it writes with the ruff beside it.
scripts = Path(sys.executable).parent
subprocess.run(
    [
        *(scripts / "openapi-python-client", "generate", "--fail-on-warning", "--meta", "none"),
        *("--path", document, "--output-path", directory / "generated"),
    ],
    env=os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}"},
    stdout=sys.stderr,
    check=True,
)
sys.path.insert(0, str(directory))
models = importlib.import_module("generated.models")
predict, predict_batch, feedback, get_model = (
    importlib.import_module(f"generated.api.{name}")
    for name in (
        "predictions.predict",
        "predictions.predict_batch",
        "predictions.feedback",
        "model.get_model",
    )
)
with importlib.import_module("generated").Client(base_url=request["url"]) as client:
    rows = [models.PredictRequest.from_dict(row) for row in request["rows"]]
    one = predict.sync(client=client, body=rows[0])
    many = predict_batch.sync(client=client, body=models.PredictBatchRequest(instances=rows))
    label = models.FeedbackLabel(prediction_id=one.prediction_id, actual=5.0)
    unknown = models.FeedbackLabel(prediction_id="unknown", actual=5.0)
    rows[0].ph = -1.0
    print(  # noqa: T201
        json.dumps(
            {
                "one": one.to_dict(),
                "many": many.to_dict(),
                "accepted": feedback.sync(client=client, body=[label]).to_dict(),
                "unknown": feedback.sync(client=client, body=unknown).to_dict(),
                "no_labels": feedback.sync(client=client, body=[]).to_dict(),
                "rejected": predict.sync(client=client, body=rows[0]).to_dict(),
                "model": get_model.sync(client=client).to_dict(),
            }
        )
    )
