"""The contract between the runtime and the agent that it runs."""

from molecule_runtime.adapters.base import AdapterConfig, AdapterHealth, BaseAdapter, RuntimeCapabilities

__all__ = ["AdapterConfig", "AdapterHealth", "BaseAdapter", "RuntimeCapabilities"]
