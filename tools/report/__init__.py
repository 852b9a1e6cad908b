"""The dashboards as one HTML file, rendered from the same JSON against a running Prometheus."""
