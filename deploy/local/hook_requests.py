"""The hooks of a configuration file on this machine: secrets, datasets, and a curl command for each hook.

The references to secrets stay as they are, so that the same file can be deployed:

- A name in Secret Manager refers to a generated secret in the local Secret Manager.
- A variable that isn't set gets a generated secret.
- A variable that is set and a file that exists keep their secrets, and no output contains these secrets.
- A file that doesn't exist isn't created, because the file would stay behind.
"""

import base64
import hmac
import json
import math
import secrets
import shlex
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.cloud import APIFY_USER, ROOT, Cloud
from deploy.local.data_world import ANY_OWNER
from deploy.local.google_identity import TOKEN_SECONDS
from deploy.local.signing import authentication
from handlers import hooks
from handlers.deadline import Deadline
from handlers.hooks import Config, Hook, loader
from handlers.hooks.templates.limits import Budget
from handlers.providers import PROVIDERS
from handlers.providers.base import event_schemas, token_patterns
from handlers.secret_store.store import SecretStore, create_fetchers
from handlers.senders import SENDERS, Sender, custom_sender
from handlers.senders.signatures import STANDARD_WEBHOOKS, TOLERANCE_SECONDS, BodySignature
from schemas.event import Update
from schemas.problem import InvalidEventError, SecretUnreachableError, SecretUnusableError
from schemas.pubsub import PushIdentity
from schemas.secret_reference import ReferenceParser, SecretReference
from schemas.strict_json import parse_payload

_SAMPLES = ROOT / "deploy/samples"
#: The sender whose sample stands for a sender without a sample, such as a sender that the file itself declares.
_GENERIC_SENDER = "token"
_MAX_BYTES = 1_048_576
# The time limit for reading a secret, in seconds.
_READ_SECONDS = 10.0
_SCHEMAS = event_schemas(PROVIDERS)


def load(path: str, environ: Mapping[str, str] | None) -> Config:
    """Return the content of a configuration file. Without `environ`, the variables in the file don't have to be set.

    Raises:
        ConfigError: The file is unreadable, or has mistakes.
    """
    return loader.load(
        path,
        ROOT,
        senders=SENDERS,
        custom_sender=custom_sender,
        schemas=_SCHEMAS,
        references=ReferenceParser(environ, token_patterns(PROVIDERS)),
        max_template_length=_MAX_BYTES,
    )


def generate_variables(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """Return a generated secret for each variable that the hooks name and that isn't set in `environ`."""
    return {
        reference.name: _generate(uses)
        for reference, uses in _secret_uses(config).items()
        if reference.kind == "env" and not environ.get(reference.name, "").strip()
    }


def _secret_uses(config: Config) -> dict[SecretReference, set[str]]:
    """Return the secrets of the hooks. The uses of a secret are names of providers, `basic`, `whsec`, and `text`."""
    uses: defaultdict[SecretReference, set[str]] = defaultdict(set)
    for hook in config.hooks.values():
        sender = _sender(hook)
        use = "basic" if sender.scheme == "Basic" else "whsec" if sender.verifier == STANDARD_WEBHOOKS else "text"
        for reference in hook.secrets:
            uses[reference].add(use)
        for update in hook.updates:
            if update.token:
                uses[update.token].add(update.provider)
    return uses


def _generate(uses: set[str]) -> str:
    """Return a new secret in the form that its uses need. Every sender accepts `user:password`."""
    if "basic" in uses:
        return f"relay:{secrets.token_hex(16)}"
    if "whsec" in uses:
        return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
    prefix = "apify_api_" if "apify" in uses else "dw." if "data.world" in uses else ""
    return prefix + secrets.token_hex(18)


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A request for a hook: its `curl` command, or the `obstacle` in its place, and the effect of the request."""

    hook: Hook
    command: str | None
    obstacle: str | None
    effect: str
    #: The secrets of the hook, and the origin of each.
    secrets: str
    #: The time until which the function accepts the signature, in seconds since 1970, or None for any time.
    valid_until: float | None


class LocalHooks:
    """The hooks of `config` with the secrets in `environ` and in the Secret Manager of `cloud`, which is started."""

    def __init__(self, config: Config, environ: Mapping[str, str], generated: Mapping[str, str], cloud: Cloud) -> None:
        self._config, self._generated, self._cloud = config, generated, cloud
        self._secrets = SecretStore(create_fetchers(environ, cloud.secret_manager.address), ttl=math.inf)
        for reference, uses in _secret_uses(config).items():
            if reference.kind == "manager":
                self._store(reference.name, uses)

    def create_datasets(self) -> None:
        """Create the datasets that the hooks update after the samples of their senders, and give access to the tokens.

        The local Apify has one account per token. This account is the first user in the references to datasets.
        """
        apify, data_world = self._cloud.apify, self._cloud.data_world
        users: dict[str, str] = {}
        references = [
            (update.provider, str(update.dataset), update.token and self._read(update.token))
            for hook in self._config.hooks.values()
            for update in self._updates(hook)
        ]
        for provider, dataset, token in references:
            user, tilde, _ = dataset.partition("~")
            if provider == "apify" and tilde and user:
                users.setdefault(token or self._cloud.apify_token, user)
        for token, user in users.items():
            apify.tokens[token] = user
        data_world.tokens[self._cloud.data_world_token] = ANY_OWNER
        for provider, dataset, token in references:
            if provider == "data.world":
                data_world.tokens[token or self._cloud.data_world_token] = ANY_OWNER
                if dataset not in data_world.datasets:
                    data_world.add(dataset)
                continue
            owner = apify.tokens.setdefault(token or self._cloud.apify_token, APIFY_USER)
            _, tilde, name = dataset.partition("~")
            is_known = any(dataset == key or (tilde and name == each["name"]) for key, each in apify.datasets.items())
            if not is_known:
                apify.add(owner, name if tilde else None, None if tilde else dataset)

    def _updates(self, hook: Hook) -> tuple[Update, ...]:
        """Return the updates that a hook derives from the sample of its sender, or updates with literal datasets."""
        try:
            result = self._evaluate(hook)
        except InvalidEventError as error:
            result = hooks.Ignored(str(error))
        if not isinstance(result, hooks.Ignored):
            return result
        literal = [update for update in hook.updates if isinstance(update.dataset, str)]
        return tuple(Update(each.provider, str(each.dataset), {}, token=each.token) for each in literal)

    def requests(self, url: str) -> list[HookRequest]:
        """Return a request for each hook of the function at `url`, with the sample of the hook's sender."""
        return [self._request(hook, f"{url}/hooks/{hook.name}") for hook in self._config.hooks.values()]

    def _request(self, hook: Hook, url: str) -> HookRequest:
        if hook.identity:
            return self._push_request(hook, hook.identity, url)
        command = obstacle = valid_until = None
        usable = [reference for reference in hook.secrets if self._read(reference)]
        # A command with a generated secret can contain the secret.
        usable.sort(key=self._is_generated, reverse=True)
        if not usable:
            obstacle = "No command: there is no secret. Create the file, and start again."
        else:
            secret, body, now = self._read(usable[0]) or "", _sample(hook).read_bytes(), time.time()
            # The function also accepts a timestamp in the future, so that the command is valid for longer.
            at = now + TOLERANCE_SECONDS - 30
            headers, query = _authentication(hook, secret, body, at)
            signs = (headers, query) != _authentication(hook, secret, b"", at)
            if (headers, query) != _authentication(hook, secret, body, at + 1):
                valid_until = at + TOLERANCE_SECONDS
            if signs or self._is_generated(usable[0]):
                command = _curl(url, _sample_headers(hook, headers), query, _sample(hook))
            else:
                obstacle = f"No command: it would show the secret in {usable[0]}, which is your own, and not generated."
        origins = ", ".join(map(self._origin, hook.secrets))
        return HookRequest(hook, command, obstacle, self._effect(hook), origins, valid_until)

    def _push_request(self, hook: Hook, identity: PushIdentity, url: str) -> HookRequest:
        token = self._cloud.google.token(aud=identity.audience, email=identity.account)
        command = _curl(url, _sample_headers(hook, {"Authorization": f"Bearer {token}"}), "", _sample(hook))
        origin = f"an ID token of {identity.account}, with a signature of this machine"
        return HookRequest(hook, command, None, self._effect(hook), origin, time.time() + TOKEN_SECONDS)

    def _effect(self, hook: Hook) -> str:
        try:
            result = self._evaluate(hook)
        except InvalidEventError as error:
            errors = error.problem.errors or {}
            path, messages = next(iter(errors.items()), ("", [str(error)]))
            return f"The hook fails on the sample: {path}: {messages[0]}"
        if isinstance(result, hooks.Ignored):
            return f"The hook ignores the sample. {result.reason}"
        return "Updates " + ", ".join(f"{update.provider} {update.dataset}" for update in result)

    def _origin(self, reference: SecretReference) -> str:
        """Return a description of a secret. The name in Secret Manager may be the secret itself by mistake."""
        if reference.kind == "manager":
            return "generated, in Secret Manager"
        if self._is_generated(reference):
            return f"generated, in the variable {reference.name}"
        if reference.kind == "env":
            return f"your variable {reference.name}"
        if self._read(reference):
            return f"your file {reference.name}"
        return f"the file {reference.name} doesn't exist, is empty, or can't be read (make run doesn't create it)"

    def _is_generated(self, reference: SecretReference) -> bool:
        return reference.kind == "manager" or (reference.kind == "env" and reference.name in self._generated)

    def _evaluate(self, hook: Hook) -> tuple[Update, ...] | hooks.Ignored:
        headers = {name.lower(): value for name, value in _sample_headers(hook, {}).items()}
        budget = Budget(_MAX_BYTES, Deadline.after(9).has_passed)
        return hooks.evaluate(hook, headers, parse_payload(_sample(hook).read_bytes()), _SCHEMAS, budget)

    def _store(self, version_name: str, uses: set[str]) -> None:
        """Create the version of a secret in the local Secret Manager, unless the version exists."""
        name, _, version = version_name.rpartition("/versions/")
        versions = self._cloud.secret_manager.secrets.setdefault(name, [])
        number = int(version) if version.isdigit() else max(len(versions), 1)
        versions += [None] * (number - len(versions))
        if versions[number - 1] is None:
            versions[number - 1] = _generate(uses).encode()

    def _read(self, reference: SecretReference) -> str | None:
        """Return a secret as the function reads it, or None if there is no usable secret."""
        try:
            return self._secrets.get(reference, Deadline.after(_READ_SECONDS)).text
        except (SecretUnreachableError, SecretUnusableError):
            return None


def _sender(hook: Hook) -> Sender:
    assert isinstance(hook.sender, Sender)
    return hook.sender


def _sample(hook: Hook) -> Path:
    path = _SAMPLES / f"{hook.sender.name}.json"
    return path if path.exists() else _SAMPLES / f"{_GENERIC_SENDER}.json"


def _sample_headers(hook: Hook, credentials: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the sample. The headers in `credentials` replace headers of the sample."""
    sample: dict[str, str] = json.loads((_SAMPLES / "headers.json").read_bytes()).get(hook.sender.name, {})
    replaced = {name.lower() for name in credentials}
    kept = {name: value for name, value in sample.items() if name.lower() not in replaced}
    return {"Content-Type": "application/json", **kept, **credentials}


def _authentication(hook: Hook, secret: str, body: bytes, at: float) -> tuple[dict[str, str], str]:
    """Return the headers and the query that authenticate `body` as a request of the sender of `hook`."""
    if hook.sender.name in SENDERS:
        return authentication(hook.sender.name, secret, body, at=at)
    verifier = _sender(hook).verifier
    (header,) = verifier.headers
    if not isinstance(verifier, BodySignature):
        return {header: secret}, ""
    digest = hmac.digest(secret.encode(), body, verifier.algorithm)
    signature = base64.b64encode(digest).decode() if verifier.encoding == "base64" else digest.hex()
    return {header: f"{verifier.prefix}{signature}"}, ""


def _curl(url: str, headers: Mapping[str, str], query: str, sample: Path) -> str:
    """Return a curl command that reads its headers, or a URL with a secret, from its standard input.

    `ps` shows the arguments of a process to all users. `printf` is a part of every shell, and so isn't a process.
    """
    if query:
        settings = [f'url = "{url}{query}"', *(f'header = "{name}: {value}"' for name, value in headers.items())]
        options = "-K -"
    else:
        settings = [f"{name}: {value}" for name, value in headers.items()]
        options = f"-H @- {url}"
    text = " ".join(map(shlex.quote, settings))
    return f"printf '%s\\n' {text} | curl -i -w '\\n' --data-binary {shlex.quote(f'@{sample}')} {options}"
