"""Publish the spool until stopped by a signal: `python -m publisher`."""

import importlib
import logging
import os
import random
import sys
import time

from prometheus_client import disable_created_metrics, start_http_server

from publisher.barrier import Barrier
from publisher.baseline import Baselines
from publisher.delivery import Backoff, Delivery
from publisher.destination import Destination
from publisher.errors import InterruptedByStop, StoppedError
from publisher.metrics import Metrics
from publisher.peers import Peers
from publisher.publisher import Publisher
from publisher.quarantine import Quarantine
from publisher.segments import SegmentPublisher
from publisher.settings import FiddlerSettings, Settings, SettingsError, read_settings
from publisher.spool import Spool, SpoolError
from publisher.stop import Stop

QUARANTINE = "quarantine"
# Events may be confidential: only this user may read what the publisher writes.
UMASK = 0o077

log = logging.getLogger("publisher")


def main() -> None:
    """Publish; exit with 0 after a stop signal, or with 1 and one line for an invalid setting."""
    os.umask(UMASK)
    stop = Stop()
    stop.install()
    try:
        settings = read_settings(Settings)
        _set_up_logging(settings)
        fiddler = None if settings.publisher_destination else read_settings(FiddlerSettings)
        spool = Spool(settings.model_spool_dir, keep=settings.model_spool_keep)
        barrier = Barrier(settings.publisher_label_delay_seconds, Peers(settings.publisher_peers))
        disable_created_metrics()  # type: ignore[no-untyped-call]
        metrics = Metrics(spool, barrier)
        start_http_server(
            settings.publisher_metrics_port, settings.publisher_host, metrics.registry
        )
    except (SettingsError, SpoolError) as error:
        sys.exit(f"publisher: {error}")
    except OSError as error:
        sys.exit(f"publisher: PUBLISHER_METRICS_PORT: {error.strerror}")
    try:
        destination = _destination(settings, fiddler, metrics)
        destination.measure(metrics.registry)
        run(settings, destination, spool, barrier, metrics, stop)
    except SettingsError as error:
        sys.exit(f"publisher: {error}")
    except InterruptedByStop:
        log.info("stopped; events that were not accepted are sent after the next start")


def _set_up_logging(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.publisher_log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    # The client logs bodies of requests and responses, which hold values of rows.
    logging.getLogger("fiddler").setLevel(logging.CRITICAL)


def _destination(
    settings: Settings, fiddler: FiddlerSettings | None, metrics: Metrics
) -> Destination:
    """Return the destination that the settings name. Raises SettingsError."""
    if fiddler is None:
        return _custom(str(settings.publisher_destination))
    if fiddler.fiddler_url.startswith("http://"):
        log.warning("FIDDLER_URL is http: the token and all events are sent unencrypted")
    # The import takes a second and 100 MB; /metrics is already up by then.
    from publisher.fiddler_client import Fiddler  # noqa: PLC0415

    longest = settings.publisher_backoff_max_seconds
    return Fiddler(fiddler, Baselines(settings.model_spool_dir, metrics, pause=longest))


def _custom(name: str) -> Destination:
    """Return an instance of a class given as module:class. Raises SettingsError."""
    module, _, class_ = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), class_)()
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"PUBLISHER_DESTINATION: {error}") from error
    if not isinstance(found, Destination):
        raise SettingsError(f"PUBLISHER_DESTINATION: {name} is no Destination")
    return found


def run(  # noqa: PLR0913, PLR0917 the parts, put together once
    settings: Settings,
    destination: Destination,
    spool: Spool,
    barrier: Barrier,
    metrics: Metrics,
    stop: Stop,
) -> None:
    """Publish until a stop signal. Raises InterruptedByStop."""
    backoff = Backoff(settings.publisher_backoff_seconds, settings.publisher_backoff_max_seconds)
    quarantine = Quarantine(settings.model_spool_dir / QUARANTINE)
    delivery = Delivery(
        destination, quarantine, metrics, backoff, stop, settings.publisher_rejected_limit
    )
    publisher = create_publisher(spool, destination, delivery, barrier)
    log.info("publishing %s to %s", settings.model_spool_dir, type(destination).__name__)
    while True:
        try:
            published = publisher.run_once()
            with stop.interruptible():
                destination.work()
        except StoppedError as error:
            metrics.mark_stopped(error.reason)
            pause = settings.publisher_stopped_seconds * random.uniform(1.0, 1.5)  # noqa: S311
            log.error("nothing is published; next try in %.0f s: %s", pause, error)  # noqa: TRY400
            with stop.interruptible():
                time.sleep(pause)
            destination.reset()
            continue
        metrics.clear_stopped()
        if not published:
            with stop.interruptible():
                time.sleep(settings.publisher_poll_seconds)


def create_publisher(
    spool: Spool, destination: Destination, delivery: Delivery, barrier: Barrier
) -> Publisher | SegmentPublisher:
    """Return what reads the spool as the destination wants it."""
    if destination.whole_segments:
        return SegmentPublisher(spool, destination, delivery)
    return Publisher(spool, destination, delivery, barrier)


if __name__ == "__main__":
    main()
