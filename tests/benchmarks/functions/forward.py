"""A function that forwards the body of each request to a provider with requests, without any check."""

import os

import functions_framework
import requests
from flask import Request

URL = os.environ["FORWARD_URL"]
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['FORWARD_TOKEN']}"}
SESSION = requests.Session()
# The default pool keeps 10 connections. The server runs more threads, and would open a connection for most requests.
SESSION.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=int(os.environ["THREADS"])))


@functions_framework.http
def relay(request: Request) -> tuple[bytes, int, dict[str, str]]:
    """Forward the body, and respond with the response of the provider."""
    response = SESSION.put(URL, data=request.get_data(), headers=HEADERS, timeout=9)
    return response.content, response.status_code, {"Content-Type": "application/json"}
