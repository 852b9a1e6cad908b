"""Applications for the benchmark, served by the service's gunicorn and worker."""
