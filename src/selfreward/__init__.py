"""Train language models on rewards that they make themselves, and know whether to believe them."""

__version__ = "0.1.0"
