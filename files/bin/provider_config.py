"""For scripts in this directory that import provider_config: it is the application's own."""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In the repository files/bin is beside files/app; installed, the modules are in /app.
APP = next(path for path in (HERE.parent / "app", Path("/app")) if (path / "provider_config.py").is_file())

_spec = importlib.util.spec_from_file_location(__name__, APP / "provider_config.py")
if _spec is None or _spec.loader is None:
    raise ImportError(f"{APP}/provider_config.py cannot be loaded")
sys.modules[__name__] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
