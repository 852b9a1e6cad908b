"""Events as Fiddler gets them."""

import math
from pathlib import Path

import pytest

from publisher.destination import Batch
from publisher.events import Event, Kind, ModelName, decoder
from publisher.fiddler_events import fiddler_events
from publisher.spool import Spool
from serving.events import Label, Prediction
from tests.support.spool import label, lines, small_spool


def batch_of(directory: Path, kind: Kind, *spooled: Prediction | Label) -> Batch:
    """Return a batch of events as they are after they were spooled."""
    writer, _ = small_spool(directory)
    writer.append(spooled)
    writer.close()
    reader = Spool(directory, keep=False)
    (segment,) = reader.segments()
    reader.close()
    raw = segment.path.read_bytes().splitlines()[1:]
    events: list[Event] = [*map(decoder(segment.header, kind), raw)]
    return Batch(ModelName("loans", "abc"), kind, segment.header, events, raw)


def test_an_event_has_features_prediction_id_and_time(tmp_path: Path) -> None:
    """Integer features are integers, missing values are null, and the time is UTC."""
    batch = batch_of(
        tmp_path,
        "prediction",
        Prediction("a", 1_764_000_000.25, (3.5, 2.0), 5.5),
        Prediction("b", 1_764_000_000.0, (3.5, math.nan), 5.5),
    )

    events = fiddler_events(batch)

    assert events == [
        {
            "ph": 3.5,
            "shelf": 2,
            "predicted_quality": 5.5,
            "prediction_id": "a",
            "predicted_at": "2025-11-24T16:00:00.250000Z",
        },
        {
            "ph": 3.5,
            "shelf": None,
            "predicted_quality": 5.5,
            "prediction_id": "b",
            "predicted_at": "2025-11-24T16:00:00.000000Z",
        },
    ]
    assert isinstance(events[0]["shelf"], int)
    assert len(lines(tmp_path)) == 2


def test_a_label_is_an_update_of_its_event(tmp_path: Path) -> None:
    """An update holds only the event's id and the target."""
    assert fiddler_events(batch_of(tmp_path, "label", label("a", 7.0))) == [
        {"prediction_id": "a", "quality": 7.0}
    ]


def test_a_fraction_does_not_fit_an_integer_column(tmp_path: Path) -> None:
    """It is not cut off silently; the message names the column, but not the value."""
    batch = batch_of(tmp_path, "prediction", Prediction("a", 1.0, (3.5, 2.25), 5.5))

    with pytest.raises(ValueError, match=r"^shelf is not an integer$"):
        fiddler_events(batch)
