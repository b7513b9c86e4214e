"""What is sent: signed events of each kind, and the script by which wrk sends them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.signing import proven
from tests import payloads
from tests.hooks import hook, update

_HOOK_SECRET = "bench-0123456789abcdef"
#: The variable that a function needs for HOOKS.
VARIABLES = {"HOOK_SECRET": _HOOK_SECRET}
#: A build that is green puts its link and its day on data.world.
HOOKS = {
    "build": hook(
        update(
            "data.world",
            "acme/products",
            {
                "description": "Built on {{ event.workflow_run.updated_at[:10] }}",
                "summary": "[{{ event.workflow_run.name }}]({{ event.workflow_run.html_url }})",
            },
        ),
        sender="github",
        when="event.action == 'completed' and event.workflow_run.conclusion == 'success'",
    )
}

# https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers
_GITHUB = {
    "User-Agent": "GitHub-Hookshot/1d2c3f4",
    "X-GitHub-Delivery": "6f2b8c1e-c7a0-11f0-9d4e-3b7f5a2c9e10",
    "X-GitHub-Event": "workflow_run",
    "X-GitHub-Hook-ID": "510283746",
    "X-GitHub-Hook-Installation-Target-ID": "81204",
    "X-GitHub-Hook-Installation-Target-Type": "repository",
}

_SCRIPT = """
local requests, turn = {}, 0
init = function()
    for number, each in ipairs(events) do requests[number] = wrk.format("POST", each[1], each[2], each[3]) end
end
request = function() turn = turn % #requests + 1; return requests[turn] end
done = function(summary, latency)
    local errors = summary.errors
    io.write(string.format('\\n{"answers": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}\\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Sent:
    """A request, but for what proves it."""

    path: str
    body: bytes
    sender: str
    secret: str
    #: What the sender's own requests have beside the proof.
    headers: Mapping[str, str] = field(default_factory=dict)

    def proven(self, message_id: str = "msg-0") -> dict[str, str]:
        """Its headers, with what proves it now: a proof has five minutes."""
        proof, _ = proven(self.sender, self.secret, self.body, message_id=message_id)
        return {**self.headers, **proof}


def native(secret: str) -> list[Sent]:
    """Events in our own language, for both platforms in turn."""
    bodies = []
    for number in range(8):
        name = f"products-{number}"
        bodies += [
            {"provider": "apify", "dataset": f"jane~{name}", "update": {"name": name, "generalAccess": "RESTRICTED"}},
            {
                "provider": "data.world",
                "dataset": f"acme/{name}",
                "update": {"summary": f"Scraped, {number} of 8.", "tags": ["daily", "prices"], "visibility": "OPEN"},
            },
        ]
    return [Sent("/", json.dumps(each).encode(), "standard-webhooks", secret) for each in bodies]


def hooked(name: str = "build", **more: Any) -> list[Sent]:
    """A sender's own payload, GitHub's, with `more` in it."""
    body = json.dumps({**payloads.github_workflow(), **more}).encode()
    return [Sent(f"/hooks/{name}", body, "github", _HOOK_SECRET, _GITHUB)]


def written(path: Path, sent: Sequence[Sent]) -> Path:
    """Writes the script that sends these, proven now."""
    lines = []
    for number, each in enumerate(sent):
        headers = {**_TYPE, **each.proven(f"msg-{number}")}
        pairs = ", ".join(f"[ {_lua(name)} ] = {_lua(value)}" for name, value in headers.items())
        lines.append(f"{{{_lua(each.path)}, {{{pairs}}}, {_lua(each.body.decode())}}},\n")
    path.write_text(f"local events = {{\n{''.join(lines)}}}\n{_SCRIPT}")
    return path


_TYPE = {"Content-Type": "application/json"}


def _lua(text: str) -> str:
    return "[==[" + text + "]==]"
