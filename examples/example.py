"""Train an example: `python -m example --output DIR`. The variable EXAMPLE overrides the default.

`--choose FILE` writes what EXAMPLE names to a file, and keeps the last choice where it names
nothing; `--chosen FILE` trains that choice.

Nothing outside this directory names an example. A bundle of another model is never replaced: it may
be the only copy of what `./task model` built.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundle.manifest import Manifest

DEFAULT = "wine_quality"
MANIFEST_FILE = "bundle.json"


def module() -> Any:  # noqa: ANN401 a module of an example: NAME and train(output)
    """Return the module of the example that EXAMPLE names. Ends with an error if there is none."""
    return importlib.import_module(f"{_checked(os.environ.get('EXAMPLE') or DEFAULT)}.train")


def train(output: Path) -> "Manifest":
    """Build the example's bundle in the directory `output`."""
    manifest: Manifest = module().train(output)
    return manifest


def other_model(output: Path) -> str | None:
    """Return the name of the model whose bundle is in a directory, unless it is an example's."""
    try:
        name = json.loads((output / MANIFEST_FILE).read_text("utf-8"))["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return None if name in _names() else str(name)


def examples() -> list[str]:
    """Return the names of the directories of examples."""
    return sorted(each.parent.name for each in Path(__file__).parent.glob("*/train.py"))


def _names() -> list[str]:
    return [importlib.import_module(f"{each}.train").NAME for each in examples()]


def _checked(name: str) -> str:
    if name not in examples():
        sys.exit(f"EXAMPLE={name} is no example; there are: {', '.join(examples())}")
    return name


def _choose(file: Path) -> None:
    """Write the choice, with which a bundle of another example is outdated."""
    chosen = os.environ.get("EXAMPLE")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    if chosen:
        file.write_text(_checked(chosen))


def _publish(output: Path) -> "Manifest":
    from bundle.publish import publish  # noqa: PLC0415 imports what --help does not need

    built = output.with_name(f"{output.name}.built")
    manifest = train(built)
    publish(built, output)
    return manifest


def main() -> None:
    """Train, and print the promised figures; or choose what is trained later."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="the bundle directory to write")
    parser.add_argument("--choose", type=Path, metavar="FILE", help="remember EXAMPLE, and end")
    parser.add_argument("--chosen", type=Path, metavar="FILE", help="train what is remembered")
    parser.add_argument(
        "--publish", action="store_true", help="keep the older version, as bundle.publish does"
    )
    arguments = parser.parse_args()
    if arguments.choose:
        _choose(arguments.choose)
        return
    if arguments.chosen:
        os.environ["EXAMPLE"] = arguments.chosen.read_text("utf-8")
    output = arguments.output
    if output is None:
        parser.error("name the directory to write with --output")
    if name := other_model(output):
        print(f"{output} holds the bundle of {name}, which stays: remove it to train the example")  # noqa: T201
        return
    manifest = _publish(output) if arguments.publish else train(output)
    validation = manifest.validation
    figures = {key: f"{value:.3f}" for key, value in validation.statistics().items()}
    folds = ", ".join(f"{key[3:]} {text}" for key, text in figures.items() if key[:3] == "cv_")
    held_out = ", ".join(f"{key} {text}" for key, text in figures.items() if key[:3] != "cv_")
    print(  # noqa: T201
        f"{manifest.name} {manifest.version}: {manifest.rows} rows;"
        f" {validation.cv_folds}-fold {folds}; held out ({validation.rows} rows) {held_out}"
    )


if __name__ == "__main__":
    main()
