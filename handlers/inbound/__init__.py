"""The HTTP interface to the callers: requests in, responses and log lines out."""
