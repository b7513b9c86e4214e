"""The HTTP side of the callers: requests in, responses and log lines out."""
