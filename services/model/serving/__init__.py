"""The service: HTTP in, predictions out, every one of them counted."""
