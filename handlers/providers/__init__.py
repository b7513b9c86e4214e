"""The data platforms that we call. A new one is a module here, a schema, and a line below."""

from collections.abc import Mapping

from handlers.providers import apify, data_world
from handlers.providers.call import Provider

PROVIDERS: Mapping[str, Provider] = {
    "apify": apify,
    "data.world": data_world,
}
