"""relay.yaml from its file."""

from pathlib import Path

from schemas.config import Config, ConfigError
from schemas.relay_yaml import Reader

#: Where it is unless RELAY_CONFIG says otherwise, below the folder of main.py.
DEFAULT = "deploy/relay.yaml"


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
