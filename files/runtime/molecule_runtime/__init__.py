"""The A2A runtime bundled with the workspace image."""

import os

__version__ = "0.5.0"

# Before anything imports the SDK: it traces every event of every turn otherwise, which costs some milliseconds a turn
# even where nothing collects the traces.
os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")
