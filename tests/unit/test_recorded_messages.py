"""Messages of every release, as they were on the wire, keep decoding for ever."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts import EVENTS, Event
from contracts.envelope import envelope
from tests.unit.record_messages import MESSAGES

EVENT_OF_TOPIC = {event.topic: event for event in EVENTS}
RECORDINGS = sorted(MESSAGES.glob("*/*.json"))

each_recording = pytest.mark.parametrize(
    "recording", RECORDINGS, ids=lambda file: f"{file.parent.name}-{file.stem}"
)


@each_recording
def test_recorded_message_is_the_same_event_today(recording: Path) -> None:
    """It decodes, under the id and the correlation that it had: a repeat of it would be recognised."""
    message: dict[str, Any] = json.loads(recording.read_text())
    event = EVENT_OF_TOPIC[message["routing_key"]].model_validate_json(message["body"])
    assert message["properties"]["message_id"] == str(event.event_id)
    assert message["properties"]["correlation_id"] == event.correlation_id
    assert message["properties"]["type"] == event.topic


@each_recording
def test_recorded_headers_are_still_sent(recording: Path) -> None:
    """Who relies on a header of a recorded message finds it, with the same value, on today's."""
    message: dict[str, Any] = json.loads(recording.read_text())
    event = EVENT_OF_TOPIC[message["routing_key"]].model_validate_json(message["body"])
    then = {name: value for name, value in message["headers"].items() if name.startswith("cloudEvents:")}
    assert then
    assert then.items() <= envelope(event)["headers"].items()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_topic_has_a_recording(event: type[Event]) -> None:
    """No version of an event is published without a message that later releases are held to."""
    assert [file for file in RECORDINGS if file.parent.name == event.topic]


def test_every_recording_has_its_event() -> None:
    """A topic's recordings lie in its own folder."""
    assert {json.loads(file.read_text())["routing_key"] for file in RECORDINGS} == {
        file.parent.name for file in RECORDINGS
    }
