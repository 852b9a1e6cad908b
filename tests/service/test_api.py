"""The HTTP API of a running service, as the contract has it."""

import re
import socket
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.load import load_bundle
from bundle.manifest import Manifest
from serving.app import COUNTED_ROUTES
from tests.service.conftest import StartModel
from tests.support.example import TARGET, Row
from tests.support.model import Model, by_label, select, total

# As the original repository's clients send it.
ORIGINAL = {
    "fixed_acidity": 7.4,
    "volatile_acidity": 0.7,
    "citric_acid": 0,
    "residual_sugar": 1.9,
    "chlorides": 0.076,
    "free_sulfur_dioxide": 11,
    "total_sulfur_dioxide": 34,
    "density": 0.9978,
    "ph": 3.51,
    "sulphates": 0.56,
    "alcohol_pct_vol": 9.4,
}


def test_the_originals_request_gets_its_quality(model: Model, example: Manifest) -> None:
    """11 fields in, `quality` out; and since then, the prediction's id and the model's version."""
    response = httpx.post(f"{model.url}/predict", json=ORIGINAL)

    answer = response.raise_for_status().json()
    assert answer.keys() == {"quality", "prediction_id", "model_version"}
    assert 3 < answer["quality"] < 8
    assert answer["model_version"] == example.version
    assert response.headers["content-type"] == "application/json"


def test_the_promised_error_is_kept(model: Model, example: Manifest, held_out: list[Row]) -> None:
    """The MAE of the held-out rows, predicted one by one through HTTP, is the bundle's."""
    with httpx.Client(base_url=model.url) as client:
        predictions = [
            client.post("/predict", json=row).raise_for_status().json()[TARGET] for row in held_out
        ]

    errors = np.array(predictions) - np.array([row[TARGET] for row in held_out])
    assert np.abs(errors).mean() == pytest.approx(example.validation.mae, abs=1e-9)
    assert np.sqrt((errors**2).mean()) == pytest.approx(example.validation.rmse, abs=1e-9)


def test_a_batch_is_its_rows(
    model: Model, example_bundle: Path, held_out_inputs: list[Row]
) -> None:
    """In order, and to the last bit what the estimator says."""
    response = httpx.post(f"{model.url}/predict/batch", json={"instances": held_out_inputs})
    predictions = response.raise_for_status().json()["predictions"]

    bundle = load_bundle(example_bundle)
    names = [feature.name for feature in bundle.manifest.features]
    rows = np.array([[row[name] for name in names] for row in held_out_inputs])
    expected = bundle.model.predict(rows.tolist(), rows).tolist()
    assert expected == [each["quality"] for each in predictions]
    assert len({each["prediction_id"] for each in predictions}) == len(held_out_inputs)


def test_a_thousand_rows_are_a_batch_and_one_more_is_not(
    model: Model, drifted_inputs: list[Row]
) -> None:
    """The limit of the contract."""
    for rows, status in ((1000, 200), (1001, 422)):
        response = httpx.post(
            f"{model.url}/predict/batch", json={"instances": drifted_inputs[:rows]}, timeout=30
        )

        assert response.status_code == status


def test_undeclared_fields_are_ignored_and_counted(start_model: StartModel) -> None:
    """The row is served; the field is counted under `_other`, whatever its name."""
    with start_model(MODEL_WORKERS="1") as model:
        response = httpx.post(f"{model.url}/predict", json={**ORIGINAL, "colour": "blue", "id": 1})
        samples = model.scrape()

    assert response.status_code == 200
    assert total(samples, "model_input_rejected_total", field="_other", reason="unknown") == 2
    assert total(samples, "model_input_rejected_total") == 2
    assert total(samples, "model_predictions_total") == 1


def test_the_root_describes_the_model(model: Model, example: Manifest) -> None:
    """Name, version, task, promised error and features; and every link leads somewhere."""
    answer = httpx.get(model.url).raise_for_status().json()

    assert answer["name"] == example.name
    assert answer["version"] == example.version
    assert answer["task"] == "regression"
    assert answer["validation"] == {
        name: getattr(example.validation, name) for name in ("mae", "rmse", "rows")
    }
    assert [each["name"] for each in answer["features"]] == [each.name for each in example.features]
    for shown, feature in zip(answer["features"], example.features, strict=True):
        assert (shown["type"], shown["unit"], shown["nullable"]) == ("number", feature.unit, False)
        assert shown["minimum"] == feature.minimum
        assert shown.get("maximum") == feature.maximum
    assert {"docs", "predict", "feedback", "healthz", "readyz"} <= answer["links"].keys()
    for link in answer["links"].values():
        assert httpx.get(f"{model.url}{link}").status_code in {200, 405}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v2/health/ready", "/ping", "/docs"])
def test_head_is_get_without_its_body(model: Model, path: str) -> None:
    """Also through the server, which sends no byte of it."""
    head, get = (httpx.request(method, f"{model.url}{path}") for method in ("HEAD", "GET"))

    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_head_works_on_the_metrics_port(model: Model, path: str) -> None:
    """With the type of the page."""
    url = model.metrics_url.removesuffix("/metrics") + path
    with httpx.Client() as client:
        head, get = client.head(url), client.get(url)

    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_the_metrics_port_links_to_what_runs(start_model: StartModel, example: Manifest) -> None:
    """The API's documentation is there; other services where the environment says so."""
    with start_model(GRAFANA_URL="http://127.0.0.1:3000/") as model:
        page = httpx.get(model.metrics_url.removesuffix("/metrics") + "/")
        links = re.findall(r'href="(http[^"]+)"', page.text)
        documentation = httpx.get(links[0])

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert len(page.content) < 4000
    assert example.name in page.text
    assert example.version in page.text
    assert documentation.status_code == 200
    assert links == [f"{model.url}/docs", "http://127.0.0.1:3000"]
    assert 'href="/metrics"' in page.text


@pytest.mark.parametrize("path", ["/healthz", "/healthcheck", "/readyz"])
def test_health(model: Model, path: str) -> None:
    """Alive, by both names, and ready."""
    assert httpx.get(f"{model.url}{path}").raise_for_status().json()["status"] in {"ok", "ready"}


def test_metrics_are_on_the_metrics_port_only(model: Model) -> None:
    """Nobody who reaches the API reads them; nobody who scrapes predicts."""
    port = model.metrics_url.removesuffix("/metrics")

    assert httpx.get(f"{model.url}/metrics").status_code == 404
    assert httpx.get(model.metrics_url).status_code == 200
    assert httpx.get(f"{port}/predict").status_code == 404
    assert httpx.post(f"{port}/predict", json=ORIGINAL).status_code in {404, 405, 501}


def test_metrics_are_text_compressed_on_request(model: Model) -> None:
    """As Prometheus asks for them."""
    response = httpx.get(model.metrics_url, headers={"Accept-Encoding": "gzip"})
    plain = httpx.get(model.metrics_url, headers={"Accept-Encoding": "identity"})

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert select(model.scrape(), "model_info")


def test_every_family_of_the_contract_is_there_from_the_start(
    start_model: StartModel, example: Manifest
) -> None:
    """Counters at 0, the model's facts at their values, with `model` and `version`."""
    with start_model() as model:
        samples = model.scrape()

    labels = {"model": example.name, "version": example.version}
    signals = {each.name for each in example.reference}
    for name in (
        "model_feature_bin_total",
        "model_feature_zscore_sum_total",
        "model_feature_zscore_squared_sum_total",
        "model_feature_out_of_range_total",
    ):
        counters = select(samples, name, **labels)
        assert {dict(each)["feature"] for each in counters} == signals
        assert set(counters.values()) == {0}
    for name in (
        "model_predictions_total",
        "model_prediction_value_count",
        "model_inference_seconds_count",
        "model_input_rejected_total",
        "model_feedback_total",
    ):
        assert total(samples, name, **labels) == 0
    ratios = select(samples, "model_feature_reference_ratio", **labels)
    assert sum(ratios.values()) == pytest.approx(len(signals))
    assert by_label(samples, "model_feature_reference_rows", "feature", **labels) == dict.fromkeys(
        signals, example.rows
    )
    promised = by_label(samples, "model_validation_error", "statistic", **labels)
    assert promised["mae"] == pytest.approx(example.validation.mae)
    (info,) = select(samples, "model_info", **labels)
    assert dict(info)["algorithm"] == "HistGradientBoostingRegressor"
    for status in ("2xx", "4xx", "5xx"):
        for handler in COUNTED_ROUTES:
            wanted = {"handler": handler, "method": "POST", "status": status}
            assert total(samples, "http_requests_total", **wanted) == 0
            assert total(samples, "http_request_duration_seconds_count", **wanted) == 0


def test_reference_and_counters_have_the_same_bins(model: Model) -> None:
    """Or the rules' join would drop a bin without a word."""
    samples = model.scrape()

    def bins(name: str) -> set[tuple[str, str]]:
        return {(dict(key)["feature"], dict(key)["bin"]) for key in select(samples, name)}

    assert bins("model_feature_bin_total") == bins("model_feature_reference_ratio")


def test_requests_are_counted_by_route_never_by_path(start_model: StartModel) -> None:
    """A scanner's thousand paths are one series."""
    with start_model(MODEL_WORKERS="1") as model:
        for path in ("/wp-admin", "/.env", "/predict/1", "/predict/batch/x"):
            httpx.get(f"{model.url}{path}")
        httpx.post(f"{model.url}/predict", json=ORIGINAL)
        handlers = by_handler(model)

    assert handlers["none"] == 4
    assert handlers["/predict"] == 1
    assert handlers.keys() <= {
        *("/", "/healthz", "/healthcheck", "/readyz", "/docs", "/openapi.json", "none"),
        *COUNTED_ROUTES,
    }


def by_handler(model: Model) -> dict[str, float]:
    """Return the number of requests by route."""
    samples = model.scrape()
    handlers = {dict(key)["handler"] for key in select(samples, "http_requests_total")}
    return {each: total(samples, "http_requests_total", handler=each) for each in handlers}


def test_nothing_tells_what_serves(model: Model) -> None:
    """No Server header."""
    assert "server" not in httpx.get(f"{model.url}/healthz").headers


def test_the_address_may_be_of_ipv6(start_model: StartModel) -> None:
    """Both ports."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error.strerror}")
    with start_model(MODEL_HOST="::1") as model:
        httpx.post(f"{model.url}/predict", json=ORIGINAL).raise_for_status()

        assert total(model.scrape(), "model_predictions_total") == 1
