"""The A2A runtime bundled with the workspace image."""

import os

__version__ = "0.5.0"

# Before anything imports the SDK: it would trace every event, some milliseconds a turn, with nobody there to
# collect the traces.
os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")
