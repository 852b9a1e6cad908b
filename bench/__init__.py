"""The benchmark: this service, its ceiling, jeremyjordan/ml-monitoring and other model servers."""

import sys

from tools import ROOT

SERVICE = ROOT / "services" / "model"

# The same paths as pytest's pythonpath in pyproject.toml.
if str(SERVICE) not in sys.path:
    sys.path += [str(SERVICE), str(ROOT / "examples")]
