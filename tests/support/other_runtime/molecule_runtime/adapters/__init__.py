"""Where adapters find their base."""
