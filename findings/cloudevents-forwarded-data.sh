#!/usr/bin/env bash
# cloudevents 2.2.0: an event that comes in structured mode and goes on in binary mode has other data, or no JSON.
# A list, as answers of a model are, is written in the form of Python: "['positive']" with content type application/json.
# true becomes True, and a label "3" becomes the number 3. The same library then reads the list back as one text.
# No error and no warning. Objects, and lists of numbers, are right. In structured mode all of them are right.
# CloudEvents allows any JSON value as data; the types in the library's code name objects, text and bytes only.
# No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet cloudevents==2.2.0
venv/bin/python - <<'PY'
import json
import warnings
from importlib.metadata import version
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

warnings.simplefilter("error")
FORM = JSONFormat()
HEAD = {"specversion": "1.0", "id": "1", "type": "answer", "source": "/models/m", "datacontenttype": "application/json"}


def forwarded(data):
    """An event with this data arrives in structured mode: the bodies that go on, and the data that the next one reads."""
    body = json.dumps({**HEAD, "data": data}).encode()
    event = from_structured(HTTPMessage({"content-type": "application/cloudevents+json"}, body), FORM, CloudEvent)
    assert event.get_data() == data and type(event.get_data()) is type(data)
    again = from_structured(to_structured(event, FORM), FORM, CloudEvent)
    assert again.get_data() == data
    message = to_binary(event, FORM)
    assert message.headers["content-type"] == "application/json"
    return message.body.decode(), from_binary(message, FORM, CloudEvent).get_data()


for data in ({"labels": ["positive"]}, [0.25, 0.75]):
    body, read = forwarded(data)
    assert json.loads(body) == data == read, (body, read)
cases = {
    "list of labels": (["positive", "negative"], "['positive', 'negative']", "['positive', 'negative']"),
    "list of objects": ([{"label": "positive"}], "[{'label': 'positive'}]", "[{'label': 'positive'}]"),
    "true": (True, "True", "True"),
    "a label": ("3", "3", 3),
}
for name, (data, wire, value) in cases.items():
    body, read = forwarded(data)
    print(f"cloudevents {version('cloudevents')}, {name}: {json.dumps(data)} goes on as {body}, and is read as {read!r}")
    assert body == wire and read == value and type(read) is type(value), (name, body, read)
print("Forward such events in structured mode, or set the data to bytes of JSON first.")
PY
