"""Publish the spool until told to stop: `python -m publisher`."""

import logging
import sys
import time

from prometheus_client import disable_created_metrics, start_http_server

from publisher.baseline import Baselines
from publisher.delivery import Backoff, Delivery
from publisher.errors import HopelessError, InterruptedByStop
from publisher.metrics import Metrics
from publisher.publisher import Publisher
from publisher.quarantine import Quarantine
from publisher.settings import Settings, SettingsError, read_settings
from publisher.spool import Header, Spool, SpoolError
from publisher.stop import Stop

QUARANTINE = "quarantine"

log = logging.getLogger("publisher")


def main() -> None:
    """Publish; a stop ends it with exit code 0, a wrong setting with one line and 1."""
    stop = Stop()
    stop.install()
    try:
        settings = read_settings()
        logging.basicConfig(
            level=settings.publisher_log_level,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
        spool = Spool(settings.model_spool_dir, keep=settings.model_spool_keep)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        metrics = Metrics(spool)
        start_http_server(
            settings.publisher_metrics_port, settings.publisher_host, metrics.registry
        )
    except (SettingsError, SpoolError) as error:
        sys.exit(f"publisher: {error}")
    except OSError as error:
        sys.exit(f"publisher: PUBLISHER_METRICS_PORT: {error.strerror}")
    try:
        run(settings, spool, metrics, stop)
    except InterruptedByStop:
        log.info("stopped; what Fiddler has not accepted is sent at the next start")


def run(settings: Settings, spool: Spool, metrics: Metrics, stop: Stop) -> None:
    """Publish until a stop. Raises InterruptedByStop."""
    # The import takes a second and 100 MB: /metrics is up already.
    from publisher.fiddler_client import Fiddler  # noqa: PLC0415

    # One line per request is for those who search a fault.
    logging.getLogger("fiddler").setLevel(
        logging.DEBUG if settings.publisher_log_level == "DEBUG" else logging.ERROR
    )
    fiddler = Fiddler(settings)
    longest = settings.publisher_backoff_max_seconds
    baselines = Baselines(settings.model_spool_dir, fiddler, metrics, pause=longest)
    backoff = Backoff(settings.publisher_backoff_seconds, longest)
    quarantine = Quarantine(settings.model_spool_dir / QUARANTINE)
    delivery = Delivery(fiddler, quarantine, metrics, backoff, stop)

    def learn(header: Header) -> None:
        fiddler.learn(header)
        baselines.learn(header)

    publisher = Publisher(spool, delivery, learn, settings.publisher_label_delay_seconds)
    log.info("publishing %s to %s", settings.model_spool_dir, settings.fiddler_url)
    try:
        while True:
            found = publisher.round()
            with stop.interruptible():
                baselines.advance()
                if not found:
                    time.sleep(settings.publisher_poll_seconds)
    except HopelessError as error:
        # Not the end of the process: its metrics tell why nothing moves, and asking again and
        # again with a token that is refused gets accounts locked.
        metrics.stopped(error.reason)
        log.error("stopped publishing until this is changed and I am restarted: %s", error)  # noqa: TRY400
        with stop.interruptible():
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
