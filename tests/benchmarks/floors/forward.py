"""A floor: the framework, and a function that does nothing but hand a body on, as most would write it."""

import os

import functions_framework
import requests
from flask import Request

SESSION = requests.Session()
# All that is kept is a pool of the size that the server's threads need.
for scheme in ("http://", "https://"):
    SESSION.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=int(os.environ["THREADS"])))
URL = os.environ["FORWARD_TO"]
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['APIFY']}"}


@functions_framework.http
def relay(request: Request) -> tuple[bytes, int, dict[str, str]]:
    answer = SESSION.put(URL, data=request.get_data(), headers=HEADERS, timeout=9)
    return answer.content, answer.status_code, {"Content-Type": "application/json"}
