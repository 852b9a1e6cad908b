"""What a person runs against a checkout or a running stack."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
