"""The application of the workspace image: the codex adapter and what it is made of, installed in /app."""
