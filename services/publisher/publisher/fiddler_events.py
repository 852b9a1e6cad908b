"""Convert events to Fiddler's: pure functions."""

from collections.abc import Callable

from publisher.destination import Batch
from publisher.events import Label, Prediction
from publisher.fiddler_columns import (
    EVENT_ID,
    EVENT_TIME,
    FiddlerValue,
    converter,
    output_name,
    probability_columns,
    timestamp,
)
from publisher.header import Category, Header, to_text

FiddlerEvent = dict[str, FiddlerValue]


def fiddler_events(batch: Batch) -> list[FiddlerEvent]:
    """Return a batch's events. Raises ValueError if a value does not fit its column."""
    convert = _converter(batch.header)
    return [
        _update(batch.header, event) if isinstance(event, Label) else convert(event)
        for event in batch.events
    ]


def _converter(header: Header) -> Callable[[Prediction], FiddlerEvent]:
    names = [column.name for column in header.features]
    changed = [
        (place, column.name, convert)
        for place, column in enumerate(header.features)
        if (convert := converter(column))
    ]
    output = output_name(header.target.name)
    probabilities = probability_columns(header)

    def to_fiddler(prediction: Prediction) -> FiddlerEvent:
        features = prediction.features
        event: FiddlerEvent = dict(zip(names, features, strict=True))
        for place, name, convert in changed:
            event[name] = convert(features[place])
        event[output] = _outcome(header, prediction.prediction)
        for index, name in probabilities:
            # The decoder has checked that there are as many as classes.
            event[name] = (prediction.probabilities or ())[index]
        event[EVENT_ID] = prediction.prediction_id
        event[EVENT_TIME] = timestamp(prediction.time)
        return event

    return to_fiddler


def _update(header: Header, label: Label) -> FiddlerEvent:
    target, convert = header.target, converter(header.target)
    actual = _outcome(header, label.actual)
    return {EVENT_ID: label.label_of, target.name: convert(actual) if convert else actual}


def _outcome(header: Header, value: Category) -> FiddlerValue:
    """Return a prediction or a true value: a number, or the text of a class."""
    return to_text(value) if header.target.classes else value
