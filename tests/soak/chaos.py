"""Faults at random, from a seed: of both platforms, of Secret Manager, of tokens, and of the function itself."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from flask import Response

from deploy.local.cloud import APIFY_USER, Cloud, secret_name
from deploy.local.upstream import Platform

#: Of a hundred calls to a platform, how many go wrong in each way, while it has a bad time.
BEFORE: dict[str, int] = {"500": 4, "503": 4, "429": 3, "408": 1, "closed": 4, "slow": 6, "page of a gateway": 2}
#: The same, but the update was carried out, and only the answer was lost.
AFTER: dict[str, int] = {"500, but done": 4, "504, but done": 3, "closed, but done": 5, "cut off, but done": 3}
HANGS = {"hangs, but done": 1}

_HANG_SECONDS = 6.0


@dataclass
class Chaos:
    """Makes faults until `over`; `counts` says how many of each."""

    cloud: Cloud
    seed: int
    over: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    #: Moments at which something happened to the function, for the plot: seconds on the monotonic clock, and what.
    marks: list[tuple[float, str]] = field(default_factory=list)
    _bad: dict[str, bool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for name, platform in (("apify", self.cloud.apify), ("data.world", self.cloud.data_world)):
            platform.instead[""] = self._of(name, platform)

    def run(self, restart: Callable[[bool], None]) -> None:
        """Lets good and bad times of the platforms alternate, and breaks what else there is to break."""
        incidents: list[Callable[[], None]] = [
            self._outage,
            self._slow_secrets,
            self._rotation,
            lambda: self._restart(restart),
        ]
        while not self.over.is_set():
            for name in ("apify", "data.world"):
                self._bad[name] = self._chance() < 0.5
            if self._chance() < 0.7:
                incidents[int(self._chance() * len(incidents))]()
            self.over.wait(1 + 3 * self._chance())
        self._bad.clear()

    def _chance(self) -> float:
        with self._lock:
            return self._random.random()

    def _of(self, name: str, platform: Platform) -> Callable[[], Response | None]:
        ways = [way for table in (BEFORE, AFTER, HANGS) for way, share in table.items() for _ in range(share)]

        def go_wrong() -> Response | None:
            drawn = int(self._chance() * 100)
            if not self._bad.get(name) or drawn >= len(ways):
                return None
            way = ways[drawn]
            with self._lock:
                self.counts[f"platform: {way}"] += 1
            return self._answer(way, platform)

        return go_wrong

    def _answer(self, way: str, platform: Platform) -> Response | None:
        match way:
            case "closed":
                return platform.break_off()
            case "slow":
                time.sleep(0.2 + self._chance())
                return None
            case "page of a gateway":
                return Response("<h1>502 Bad Gateway</h1>", 502)
            case "429":
                return Response("{}", 429, {"Retry-After": "1"} if self._chance() < 0.5 else {})
            case "500" | "503" | "408":
                return Response("{}", int(way))
        done = platform.carry_out()
        if done.status_code >= 400:
            return done
        match way:
            case "closed, but done":
                return platform.break_off()
            case "cut off, but done":
                # More is announced than comes.
                return Response(done.get_data()[:20], 200, {"Content-Length": "1000", "Connection": "close"})
            case "hangs, but done":
                self.over.wait(_HANG_SECONDS)
                return platform.break_off()
        return Response("{}", int(way[:3]))

    def _outage(self) -> None:
        self._count("Secret Manager away")
        self.cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
        self.over.wait(1 + 2 * self._chance())
        self.cloud.secret_manager.refusals.clear()

    def _slow_secrets(self) -> None:
        self._count("Secret Manager slow")
        self.cloud.secret_manager.delay = 0.5
        self.over.wait(1 + self._chance())
        self.cloud.secret_manager.delay = 0.0

    def _rotation(self) -> None:
        self._count("token rotated")
        token = f"apify_api_{self._random.randbytes(18).hex()}"
        tokens = self.cloud.apify.tokens
        self.cloud.secret_manager.add_version(secret_name("apify-token"), token)
        tokens[token] = APIFY_USER
        for old in [each for each in tokens if each != token]:
            del tokens[old]

    def _restart(self, restart: Callable[[bool], None]) -> None:
        gently = self._chance() < 0.6
        what = "function restarted" if gently else "function killed"
        self._count(what)
        self.marks.append((time.monotonic(), what))
        restart(gently)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1
