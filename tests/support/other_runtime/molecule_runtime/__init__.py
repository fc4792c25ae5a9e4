"""A stand-in for another A2A runtime: the public base of an adapter, the SDK's server, no more."""
