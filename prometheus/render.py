# ruff: noqa: INP001 a script beside the files it reads
"""Render what is derived from this directory's sources.

- prometheusrule.yaml: rules/*.yml in the form the Prometheus operator reads. Prometheus rejects the
  operator's keys and the operator rejects plain files, so the plain files are the source.
- alertmanager.slack.yml: alertmanager.yml with the receivers of receivers.slack.yml.
- slack.values.yaml: the same as Helm values for kube-prometheus-stack.
- consoles/runbooks.html: runbooks.md as a page that Prometheus serves; it needs no internet.

`--check` writes nothing and fails when a committed rendering is stale.
"""

import html
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
# Where the operator mounts the Secret, and Alertmanager then runs: api_url_file is relative to it.
ALERTMANAGER_DIRECTORY = "/etc/alertmanager"
RECEIVERS_SECRET = "alertmanager-receivers"  # noqa: S105 a name


class _Dumper(yaml.SafeDumper):
    """YAML as a person would write it: expressions of several lines stay blocks."""


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_str)


def rule_groups() -> list[Any]:
    """Return the groups of every rule file, in the order of the files' names."""
    files = sorted((HERE / "rules").glob("*.yml"))
    return [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]


def prometheus_rule() -> str:
    """Return the PrometheusRule as YAML."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "model"},
        "spec": {"groups": rule_groups()},
    }
    text = _yaml(rule)
    return "# Generated from rules/*.yml by render.py; edit those.\n" + text


def _yaml(content: object) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def alertmanager_with_slack() -> str:
    """Return Alertmanager's configuration with other receivers."""
    source = (HERE / "alertmanager.yml").read_text()
    shared = source[source.index("route:") : source.index("receivers:")]
    header = "# Generated from alertmanager.yml and receivers.slack.yml by render.py; edit those.\n"
    return header + shared + (HERE / "receivers.slack.yml").read_text()


def slack_values() -> str:
    """Return Helm values with which Alertmanager sends to Slack.

    As a map and not as `stringConfig`, in which Helm would expand the templates of the messages.
    """
    values = {
        "tplConfig": False,
        "config": yaml.safe_load(alertmanager_with_slack()),
        "alertmanagerSpec": {
            "containers": [{"name": "alertmanager", "workingDir": ALERTMANAGER_DIRECTORY}],
            "volumes": [{"name": "receivers", "secret": {"secretName": RECEIVERS_SECRET}}],
            "volumeMounts": [
                {
                    "name": "receivers",
                    "mountPath": f"{ALERTMANAGER_DIRECTORY}/secrets",
                    "readOnly": True,
                }
            ],
        },
    }
    header = (
        "# Generated from alertmanager.yml and receivers.slack.yml by render.py; edit those.\n"
        f"# Needs the Secret {RECEIVERS_SECRET} with the key slack_webhook_url: k8s/README.md.\n"
    )
    return header + _yaml({"alertmanager": values})


def runbook_page() -> str:
    """Return the runbooks as one HTML page; Prometheus reads it as a template of Go."""
    blocks = (HERE / "runbooks.md").read_text().strip().split("\n\n")
    body = "\n".join(line for block in blocks for line in _block(block))
    return f"""<!doctype html>
<html lang="en">
<!-- Generated from runbooks.md by render.py; edit that. -->
<meta charset="utf-8">
<title>Runbooks</title>
<style>
body {{max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif}}
h2:target, h2:has(:target) {{background: #fe8}} code {{background: #eee}}
</style>
{body}
</html>
"""


def _block(block: str) -> Iterator[str]:
    """Yield a paragraph, or a heading with the paragraph right below it."""
    first, _, rest = block.partition("\n")
    level = len(first) - len(first.lstrip("#"))
    if not level:
        yield f"<p>{_inline(block)}</p>"
        return
    name = first.lstrip("# ")
    # Two ids: runbook_url has the one in lower case, a link of a dashboard the alert's name.
    anchor = f'<a id="{name}">{name}</a>'
    yield f'<h{level} id="{name.lower()}">{anchor}</h{level}>'
    if rest:
        yield f"<p>{_inline(rest)}</p>"


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


RENDERINGS: dict[str, Callable[[], str]] = {
    "prometheusrule.yaml": prometheus_rule,
    "alertmanager.slack.yml": alertmanager_with_slack,
    "slack.values.yaml": slack_values,
    "consoles/runbooks.html": runbook_page,
}


def main(arguments: list[str]) -> int:
    """Write the renderings, or with --check only compare them."""
    stale = 0
    for name, render in RENDERINGS.items():
        target, rendered = HERE / name, render()
        if arguments == ["--check"]:
            if not target.exists() or target.read_text() != rendered:
                sys.stderr.write(f"{name} is stale: run `./task render`\n")
                stale = 1
            continue
        target.parent.mkdir(exist_ok=True)
        target.write_text(rendered)
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
