"""The workspace's payload: what lands in /app."""
