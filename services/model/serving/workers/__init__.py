"""gunicorn's workers, and which of them gets a connection."""
