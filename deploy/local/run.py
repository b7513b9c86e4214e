"""`make run`: the function, both providers, and Secret Manager until Ctrl-C, with commands to paste."""

import json
import os
import sys

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud, Function, is_free_port, stop_event
from deploy.local.demo import RECIPE, paint, workflow
from deploy.local.signing import authentication

_PORT = 8080


def main() -> int:
    """Run until Ctrl-C, or until the function ends."""
    port_setting = os.environ.get("PORT", "")
    if port_setting and not port_setting.isdigit():
        print("PORT must be a number.", file=sys.stderr)
        return 1
    port = int(port_setting or _PORT)
    stop = stop_event()
    cloud = Cloud().start()
    dataset_id = cloud.apify.add(APIFY_USER, "products")
    cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    config = os.environ.get("RELAY_CONFIG") or RECIPE
    settings = {**cloud.settings(), "RELAY_CONFIG": config}
    function = Function(settings, port=port if is_free_port(port) else None, environ=os.environ)
    try:
        function.wait_until_up(stop=stop)
        print(introduction(cloud, function.url, dataset_id, config), flush=True)
        while not stop.wait(0.2) and function.process.poll() is None:
            pass
        return 0 if stop.is_set() else 1
    except RuntimeError as error:
        print(f"{paint('red', 'Not started:')} {error}", file=sys.stderr)
        return 1
    finally:
        function.stop()
        cloud.stop()


def _curl(options: str, secret: str) -> str:
    """Return a curl command whose `Authorization` header isn't an argument, since `ps` shows arguments to all users.

    `echo` is a part of every shell, and so has no arguments that `ps` shows.
    """
    return f"echo 'Authorization: Bearer {secret}' | curl -w '\\n' -H @- {options}"


def _hook_command(cloud: Cloud, url: str) -> str:
    """Return a command that sends a request as GitHub does, with the signature of its payload."""
    payload = json.dumps(workflow())
    signature, _ = authentication("github", cloud.github_secret, payload.encode())
    headers = {"Content-Type": "application/json", "X-GitHub-Event": "workflow_run", **signature}
    options = " ".join(f"-H '{name}: {value}'" for name, value in headers.items())
    return f"curl -w '\\n' -i {options} -d '{payload}' {url}/hooks/github-workflow"


def introduction(cloud: Cloud, url: str, dataset_id: str, config: str) -> str:
    """Return the text that `make run` prints: the address of the function, and commands to paste."""
    event = _curl("-i -H 'Content-Type: application/json'", cloud.relay_secret)
    apify = '{"provider": "apify", "dataset": "%s", "update": {"generalAccess": "ANYONE_WITH_ID_CAN_READ"}}'
    data_world = '{"provider": "data.world", "dataset": "acme/products", "update": {"title": "Products, daily"}}'
    wrong = '{"provider": "data.world", "dataset": "acme/products", "update": {"titel": "Products, daily"}}'
    steps = [
        ("Update a dataset on Apify", f"{event} -d '{apify % dataset_id}' {url}"),
        ("Update a dataset on data.world", f"{event} -d '{data_world}' {url}"),
        ("Preview the request, without sending it", f"{event} -d '{data_world}' '{url}/?dry_run=true'"),
        ("Make a typing error", f"{event} -d '{wrong}' {url}"),
        *([("Send a GitHub webhook to a hook", _hook_command(cloud, url))] if config == RECIPE else []),
        (
            "Read the records back",
            _curl(f"-s {cloud.apify.base_url}/datasets/{dataset_id}", cloud.apify_token),
        ),
        ("", _curl(f"-s {cloud.data_world.base_url}/datasets/acme/products", cloud.data_world_token)),
    ]
    lines = [
        f"\n{paint('bold', 'Running')} at {paint('cyan', url)}, with the hooks of {config}.",
        "The secrets below are valid only until you stop the function.\n",
    ]
    for title, command in steps:
        lines.append((f"{paint('bold', title)}\n" if title else "") + f"  {command}\n")
    lines.append("Ctrl-C stops everything. The log of the function follows.\n")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
