"""The benchmark: this service, its ceiling, jeremyjordan/ml-monitoring and other model servers."""

import sys

from tools import ROOT

SERVICE = ROOT / "services" / "model"
# The packages of the service and of the example, as in pytest's pythonpath in pyproject.toml.
PACKAGES = (SERVICE, ROOT / "examples")
# For servers that import them, and the benchmark's own applications.
PYTHONPATH = ":".join(map(str, (ROOT, *PACKAGES)))

sys.path += [str(path) for path in PACKAGES if str(path) not in sys.path]
