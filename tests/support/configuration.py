"""The content of relay.yaml for tests, without a server."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from handlers.hooks.config import Config
from handlers.hooks.loader import load
from handlers.providers import PROVIDERS
from handlers.providers.base import event_schemas, token_patterns
from handlers.senders import SENDERS, custom_sender
from schemas.secret_reference import ReferenceParser

#: The schema of each provider's events.
SCHEMAS = event_schemas(PROVIDERS)


def load_file(
    path: Path | str, environ: Mapping[str, str] | None = None, max_template_length: int = 1_048_576
) -> Config:
    """Return the content of a relay.yaml. Without `environ`, secret references need nothing in the environment."""
    return load(
        str(path),
        Path(),
        senders=SENDERS,
        custom_sender=custom_sender,
        schemas=SCHEMAS,
        references=ReferenceParser(environ, token_patterns(PROVIDERS)),
        max_template_length=max_template_length,
    )


def load_hooks(folder: Path, **hooks: Any) -> Config:
    """Return the content of a relay.yaml with these hooks."""
    path = folder / "relay.yaml"
    path.write_text(yaml.safe_dump({"hooks": hooks}, allow_unicode=True))
    return load_file(path)
