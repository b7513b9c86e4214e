"""The providers: a new provider is a module in this package, a schema, and a line below."""

from collections.abc import Mapping

from handlers.providers.apify import Apify
from handlers.providers.base import Provider
from handlers.providers.data_world import DataWorld

PROVIDERS: Mapping[str, Provider] = {
    "apify": Apify(),
    "data.world": DataWorld(),
}
