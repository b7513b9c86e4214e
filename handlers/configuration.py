"""relay.yaml, and the OpenAPI document that is served, from their files."""

from pathlib import Path

from schemas.config import Config, ConfigError
from schemas.relay_yaml import Reader

#: Where it is unless RELAY_CONFIG says otherwise, below the folder of main.py.
DEFAULT = "deploy/relay.yaml"
DOCUMENT = "deploy/openapi.json"


def load(named: str | None, folder: Path, reader: Reader) -> Config:
    """The configuration in the file that is `named`, or in the DEFAULT one in `folder`, which needn't be there.

    Raises ConfigError.
    """
    path = Path(named) if named else folder / DEFAULT
    if named is None and not path.exists():
        return Config()
    shown = named or DEFAULT
    try:
        return reader.read(path.read_bytes().decode("utf-8-sig"), shown)
    except OSError as error:
        raise ConfigError(shown, {"": [f"Can't be read: {error.strerror}."]}) from None
    except UnicodeDecodeError as error:
        raise ConfigError(shown, {"": [f"Is not UTF-8 (byte {error.start})."]}) from None


def document(folder: Path) -> bytes | None:
    """The OpenAPI document in `folder`, as it is sent; None: it can't be read, and that stops no update."""
    try:
        return (folder / DOCUMENT).read_bytes()
    except OSError:
        return None
