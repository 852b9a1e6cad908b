"""Audit what the locks name: known vulnerabilities, licences, and a bill of materials for each.

pip-audit and CycloneDX run in an environment of their own (requirements.txt, installed by
`./task audit`); licences are read from the packages that are installed in .venv.
"""
