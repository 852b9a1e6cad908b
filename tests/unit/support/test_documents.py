"""Reading commands out of documents."""

from tests.support.documents import commands_in

TEXT = """# Title

```console
$ curl -s 127.0.0.1:8000/predict -d '{"a": 1,
    "b": 2}'  # what's this
{"output": "not a command"}
$ one && \\
    two
```

After `./task down`:

```python
not_a_command = True
```

```console
first
second   # explained
```
"""


def test_commands_with_prompts_leave_their_output_out() -> None:
    """A quote or a backslash makes a command go on; a sentence may hold a command as well."""
    assert list(commands_in(TEXT)) == [
        'curl -s 127.0.0.1:8000/predict -d \'{"a": 1,\n    "b": 2}\'  # what\'s this',
        "one && \\\n    two",
        "./task down",
        "first",
        "second   # explained",
    ]
