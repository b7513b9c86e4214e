"""Random faults of both providers, of Secret Manager, of a token, and of the function."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from flask import Response

from deploy.local.cloud import APIFY_USER, Cloud, secret_name
from deploy.local.provider import LocalProvider

#: The faults of a provider, and the percentage of the calls with each fault while the provider is unreliable. After
#: "applied", the provider has applied the update, and only the response is lost.
FAULTS = {
    "500": 4,
    "503": 4,
    "429": 3,
    "408": 1,
    "closed": 4,
    "slow": 6,
    "HTML page": 2,
    "applied, 500": 4,
    "applied, 504": 3,
    "applied, closed": 5,
    "applied, truncated": 3,
    "applied, hangs": 1,
}
# Much longer than RELAY_DEADLINE_SECONDS and the timeout of the senders.
HANG_SECONDS = 60.0


@dataclass
class Chaos:
    """Cause faults until `over` is set, and count them in `counts`. The same seed draws the same faults."""

    cloud: Cloud
    seed: int
    over: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    _unreliable: dict[str, bool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for name, provider in (("apify", self.cloud.apify), ("data.world", self.cloud.data_world)):
            provider.instead[""] = self._fault_of(name, provider)

    def run(self, restart: Callable[[bool], None]) -> None:
        """Alternate between reliable and unreliable providers, and cause other incidents.

        `restart` restarts the function, and takes whether to stop the function in order.
        """
        incidents: list[Callable[[], None]] = [
            self._outage,
            self._slow_secrets,
            self._rotation,
            lambda: self._restart(restart),
        ]
        while not self.over.is_set():
            for name in ("apify", "data.world"):
                self._unreliable[name] = self._draw() < 0.5
            if self._draw() < 0.7:
                incidents[int(self._draw() * len(incidents))]()
            self.over.wait(1 + 3 * self._draw())
        self._unreliable.clear()

    def _draw(self) -> float:
        with self._lock:
            return self._random.random()

    def _count(self, fault: str) -> None:
        with self._lock:
            self.counts[fault] += 1

    def _fault_of(self, name: str, provider: LocalProvider) -> Callable[[], Response | None]:
        """Return the function that replaces some responses of the provider."""
        percent = [fault for fault, share in FAULTS.items() for _ in range(share)]

        def fault_or_none() -> Response | None:
            number = int(self._draw() * 100)
            if not self._unreliable.get(name) or number >= len(percent):
                return None
            self._count(percent[number])
            return self._response(percent[number], provider)

        return fault_or_none

    def _response(self, fault: str, provider: LocalProvider) -> Response | None:
        if fault.startswith("applied"):
            response = provider.carry_out()
            if response.status_code >= 400:
                return response
        match fault.removeprefix("applied, "):
            case "closed":
                return provider.break_off()
            case "slow":
                time.sleep(0.2 + self._draw())
                return None
            case "HTML page":
                return Response("<h1>502 Bad Gateway</h1>", 502)
            case "429":
                return Response("{}", 429, {"Retry-After": "1"} if self._draw() < 0.5 else {})
            case "truncated":
                # The body ends before the announced length.
                return Response(response.get_data()[:20], 200, {"Content-Length": "1000", "Connection": "close"})
            case "hangs":
                self.over.wait(HANG_SECONDS)
                return provider.break_off()
            case status:
                return Response("{}", int(status))

    def _outage(self) -> None:
        self._count("Secret Manager unavailable")
        self.cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
        self.over.wait(1 + 2 * self._draw())
        self.cloud.secret_manager.refusals.clear()

    def _slow_secrets(self) -> None:
        self._count("Secret Manager slow")
        self.cloud.secret_manager.delay = 0.5
        self.over.wait(1 + self._draw())
        self.cloud.secret_manager.delay = 0.0

    def _rotation(self) -> None:
        self._count("token rotated")
        with self._lock:
            token = f"apify_api_CANARY{self._random.randbytes(15).hex()}"
        self.cloud.secret_manager.add_version(secret_name("apify-token"), token)
        tokens = self.cloud.apify.tokens
        tokens[token] = APIFY_USER
        for old in [each for each in tokens if each != token]:
            del tokens[old]

    def _restart(self, restart: Callable[[bool], None]) -> None:
        in_order = self._draw() < 0.6
        self._count("function restarted" if in_order else "function killed")
        restart(in_order)
