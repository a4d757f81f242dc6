"""A supervised actor runtime for fine-tuning language models through the Tinker API."""

__version__ = "0.1.0"
