"""The A2A runtime bundled with the workspace image."""

__version__ = "0.5.0"
