"""Applications that only the benchmark serves, with the service's own gunicorn and worker."""
