"""Ask Prometheus, each question once."""

from typing import Any

import httpx

from tools.report.errors import ReportError
from tools.report.times import Range

Series = dict[str, Any]


class Prometheus:
    """The answers of one Prometheus over one range of time."""

    def __init__(self, url: str, span: Range) -> None:
        self.url = url.rstrip("/")
        self.span = span
        self._http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=60, trust_env=False)
        self._answers: dict[tuple[str, float], list[Series]] = {}

    def instant(self, expr: str) -> list[Series]:
        """Return the series of a query at the end of the range; each has metric and value."""
        return self._once("query", expr, 0, {"time": self.span.end})

    def range(self, expr: str, step: int) -> list[Series]:
        """Return the series of a query over the range; each has metric and values."""
        start = self.span.start // step * step
        times = {"start": start, "end": self.span.end // step * step, "step": step}
        return self._once("query_range", expr, step, times)

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values of a label among the series that were there in the range."""
        params = {"match[]": selector, "start": self.span.start, "end": self.span.end}
        return list(self._ask("GET", f"/label/{label}/values", params))

    def _once(self, path: str, expr: str, step: int, times: dict[str, float]) -> list[Series]:
        if (expr, step) not in self._answers:
            data = self._ask("POST", f"/{path}", {"query": expr, **times})
            self._answers[expr, step] = data["result"]
        return self._answers[expr, step]

    def _ask(self, method: str, path: str, values: dict[str, Any]) -> Any:  # noqa: ANN401 (JSON)
        sent = {"params": values} if method == "GET" else {"data": values}
        try:
            answer = self._http.request(method, path, **sent).json()  # type: ignore[arg-type]
        except (httpx.HTTPError, ValueError) as error:
            raise ReportError(f"{self.url} does not answer as Prometheus does: {error}") from error
        if answer.get("status") != "success":
            raise QueryError(str(answer.get("error", "no reason was given")))
        return answer["data"]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class QueryError(ReportError):
    """Prometheus rejected a query; the message is its own."""
