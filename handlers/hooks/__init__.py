"""Hooks: relay.yaml and a sender's own payload in, updates out."""

from handlers.hooks.config import Config, ConfigError, Hook
from handlers.hooks.mapping import Ignored, evaluate

__all__ = ["Config", "ConfigError", "Hook", "Ignored", "evaluate"]
