"""Which features the model never logs, by its settings."""

from tools import ROOT
from tools.stack.settings import load_settings, read_env_file

_SETTING = "MODEL_SPOOL_EXCLUDE"
_DEFAULTS = ROOT / "services" / "model" / "settings.env"


def excluded_features() -> frozenset[str]:
    """Return the features that MODEL_SPOOL_EXCLUDE names now, in environment, .env or settings."""
    found = load_settings().environment.get(_SETTING) or read_env_file(_DEFAULTS).get(_SETTING, "")
    return frozenset(name for each in found.split(",") if (name := each.strip()))
