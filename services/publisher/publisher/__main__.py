"""Publish the spool until stopped by a signal: `python -m publisher`."""

import logging
import sys
import time

from prometheus_client import disable_created_metrics, start_http_server

from publisher.baseline import Baselines
from publisher.delivery import Backoff, Delivery
from publisher.errors import FatalError, InterruptedByStop
from publisher.metrics import Metrics
from publisher.publisher import Publisher
from publisher.quarantine import Quarantine
from publisher.settings import Settings, SettingsError, read_settings
from publisher.spool import Header, Spool, SpoolError
from publisher.stop import Stop

QUARANTINE = "quarantine"

log = logging.getLogger("publisher")


def main() -> None:
    """Publish; exit with 0 after a stop signal, or with 1 and one line for an invalid setting."""
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
        log.info("stopped; events that Fiddler has not accepted are sent after the next start")


def run(settings: Settings, spool: Spool, metrics: Metrics, stop: Stop) -> None:
    """Publish until a stop signal. Raises InterruptedByStop."""
    # The import takes a second and 100 MB; /metrics is already up by then.
    from publisher.fiddler_client import Fiddler  # noqa: PLC0415

    # The client logs a line per request, which is useful only for debugging.
    logging.getLogger("fiddler").setLevel(
        logging.DEBUG if settings.publisher_log_level == "DEBUG" else logging.ERROR
    )
    fiddler = Fiddler(settings)
    longest = settings.publisher_backoff_max_seconds
    baselines = Baselines(settings.model_spool_dir, fiddler, metrics, pause=longest)
    backoff = Backoff(settings.publisher_backoff_seconds, longest)
    quarantine = Quarantine(settings.model_spool_dir / QUARANTINE)
    delivery = Delivery(fiddler, quarantine, metrics, backoff, stop)

    def register(header: Header) -> None:
        fiddler.register(header)
        baselines.register(header)

    publisher = Publisher(spool, delivery, register, settings.publisher_label_delay_seconds)
    log.info("publishing %s to %s", settings.model_spool_dir, settings.fiddler_url)
    try:
        while True:
            published = publisher.run_once()
            with stop.interruptible():
                baselines.advance()
                if not published:
                    time.sleep(settings.publisher_poll_seconds)
    except FatalError as error:
        # The process stays up: its metrics show why nothing is published, and retrying with a
        # rejected token can lock the account.
        metrics.mark_stopped(error.reason)
        log.error("publishing stopped; fix this and restart the publisher: %s", error)  # noqa: TRY400
        with stop.interruptible():
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
