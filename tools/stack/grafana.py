"""What to say of Grafana: its password, and what to do where it is missing."""

from tools.stack import programs, setup
from tools.stack.settings import Settings

_GIVEN = "as given in GF_SECURITY_ADMIN_PASSWORD"


def password(settings: Settings) -> str:
    """Return the administrator's password, for the person who asks for it."""
    if settings.environment.get("GF_SECURITY_ADMIN_PASSWORD"):
        return _GIVEN
    return setup.password_file(settings).read_text().strip()


def password_place(settings: Settings) -> str:
    """Return where the password is; what `up` prints may end in a log."""
    if settings.environment.get("GF_SECURITY_ADMIN_PASSWORD"):
        return _GIVEN
    return f"in {setup.password_file(settings)}; `./task status` shows it"


def missing(settings: Settings) -> str:
    """Return what to do where the stack runs without Grafana."""
    if programs.find("grafana", settings.environment):
        return "Grafana is there now: `./task down`, then `./task up` starts the stack with it"
    return (
        f"without Grafana: its dashboards are at {settings.url('REPORT_PORT')};"
        " `./task fetch` tries to download it"
    )
