"""What the report does not know how to show: said on the panel, and a failure with --strict."""

from collections.abc import Container


class Notes(list[str]):
    """What of a panel could not be shown as Grafana would."""

    def check(self, what: str, value: object, known: Container[object]) -> bool:
        """Return whether a value is known; note it where it is not."""
        if value in known:
            return True
        if (note := f"{what} {value}") not in self:
            self.append(note)
        return False
