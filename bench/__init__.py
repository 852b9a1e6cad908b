"""The benchmark: this service, its ceiling, the original and its peers, side by side in one run."""

import sys

from tools import ROOT

SERVICE = ROOT / "services" / "model"

# As pyproject.toml tells pytest: the service's packages lie there.
if str(SERVICE) not in sys.path:
    sys.path += [str(SERVICE), str(ROOT / "examples")]
