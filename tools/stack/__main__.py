"""Start, stop and inspect the stack: python -m tools.stack COMMAND."""

import argparse
import sys
from types import ModuleType

from tools import command
from tools.stack import compose, native, programs, traffic
from tools.stack.settings import Settings, StackError, load_settings

_COMMANDS = ("up", "down", "status", "logs", "clean", "fetch", "version", "reload")
_STACKS: dict[str, ModuleType] = {"compose": compose, "native": native}


def main() -> int:
    """Carry out one command; a StackError is one line on stderr and exit status 1."""
    arguments = _arguments()
    try:
        succeeded = _run(arguments.command, load_settings(), arguments.services)
    except StackError as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0 if succeeded else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools.stack", description=__doc__)
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("services", nargs="*", help="whose logs; all without it")
    return parser.parse_args()


def _run(name: str, settings: Settings, services: list[str]) -> bool:
    if name == "clean":
        for stack in _that_may_have_data(settings):
            stack.clean(settings)
        return True
    if name == "fetch":
        return not programs.fetch([*programs.MINIMUM], settings.environment)
    if name == "version":
        print(traffic.report(settings))
        return True
    stack = _to_start(settings) if name == "up" else _that_runs(settings)
    if name == "logs":
        stack.logs(settings, services)
    elif name == "status":
        return bool(stack.status(settings))
    else:
        getattr(stack, name)(settings)
    return True


def _to_start(settings: Settings) -> ModuleType:
    """Return the stack that STACK names, else the one that runs, else what the machine can do."""
    chosen = _chosen(settings)
    runs_natively = native.running(settings)
    if chosen is native or (chosen is None and runs_natively):
        return native
    lacks = compose.missing()
    if chosen is None:
        return native if lacks else compose
    if lacks:
        raise StackError(f"STACK=compose, but {lacks}")
    if runs_natively:
        raise StackError("the native stack is running on these ports: `./task down` first")
    return compose


def _that_runs(settings: Settings) -> ModuleType:
    """Return the stack that STACK names, else the one that runs, else the native one."""
    if chosen := _chosen(settings):
        return chosen
    if native.running(settings) or compose.missing() or not compose.running(settings):
        return native
    return compose


def _that_may_have_data(settings: Settings) -> list[ModuleType]:
    """Return the stack that STACK names, else every one this machine can run."""
    if chosen := _chosen(settings):
        return [chosen]
    return [native] if compose.missing() else [native, compose]


def _chosen(settings: Settings) -> ModuleType | None:
    name = settings.environment.get("STACK", "")
    if name and name not in _STACKS:
        raise StackError(f"STACK={name} is neither compose nor native")
    return _STACKS.get(name)


if __name__ == "__main__":
    command.run(main)
