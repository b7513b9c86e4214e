"""relay.yaml, and the OpenAPI document that is served, from their files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config import Config, ConfigError

if TYPE_CHECKING:
    from schemas.relay_yaml import Reader

#: Where it is unless RELAY_CONFIG says otherwise, below the folder of main.py.
DEFAULT = "deploy/relay.yaml"
DOCUMENT = "deploy/openapi.json"


def load(named: str | None, folder: Path, reader: "Callable[[], Reader]") -> Config:
    """The configuration in the file that is `named`, or in the DEFAULT one in `folder`, which needn't be there.

    `reader` makes what reads it, which takes its time: not where nothing is configured. Raises ConfigError.
    """
    path = Path(named) if named else folder / DEFAULT
    if named is None and not path.exists():
        return Config()
    shown = named or DEFAULT
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(shown, {"": [f"Can't be read: {error.strerror}."]}) from None
    except UnicodeDecodeError as error:
        raise ConfigError(shown, {"": [f"Is not UTF-8 (byte {error.start})."]}) from None
    return Config() if _says_nothing(text) else reader().read(text, shown)


def _says_nothing(text: str) -> bool:
    """Whether it is the file as it comes: comments, and hooks of which there are none."""
    said = [each for each in text.split("\n") if each.strip() and not each.lstrip().startswith("#")]
    return said in ([], ["hooks:"])


def document(folder: Path) -> bytes | None:
    """The OpenAPI document in `folder`, as it is sent; None: it can't be read, and that stops no update."""
    try:
        return (folder / DOCUMENT).read_bytes()
    except OSError:
        return None
