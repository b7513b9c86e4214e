"""Secrets: the references, the cache, and Google Secret Manager."""
