"""JSON of others is read as the library reads it, and never deeper than a stack is good for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.json_text import MOST_DEPTH, parsed

texts = st.text(alphabet='[]{}"\\,: aé\u2028', max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4),
    max_leaves=30,
)


@given(value=values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_whatever_is_written_is_read_back(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parsed(text) == parsed(text.encode()) == parsed(b"\xef\xbb\xbf" + text.encode()) == value


@given(text=texts | st.text(alphabet='[]{}"\\,:1 ', max_size=40))
def test_what_the_library_does_not_read_is_a_value_error_and_nothing_else(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            parsed(text)
    else:
        assert parsed(text) == expected


def nested(depth: int, shape: str) -> str:
    return {
        "lists": "[" * depth + "]" * depth,
        "objects": '{"a":' * depth + "1" + "}" * depth,
        "open": "[" * depth,
        "closed": "]" * depth,
        "with others between": '[{"t":"]"},' * depth + "1" + "]" * depth,
        "behind a text": '["\\"[",' * depth + "1" + "]" * depth,
        "behind backslashes": '["\\\\",' * depth + "1" + "]" * depth,
        "pairs that hide it": "[[]," * depth,
    }[shape]


SHAPES = ("lists", "objects", "open", "closed", "with others between", "behind a text", "behind backslashes",
          "pairs that hide it")  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [2 * MOST_DEPTH + 2, 20_000])
def test_brackets_within_brackets_without_end_are_refused(shape, depth):
    with pytest.raises(ValueError, match="nested deeper than 100 brackets"):
        parsed(nested(depth, shape))


@pytest.mark.parametrize("shape", ["lists", "objects", "with others between", "behind a text", "behind backslashes"])
def test_what_is_as_deep_as_anything_of_use_is_read(shape):
    text = nested(MOST_DEPTH // 2, shape)
    assert parsed(text) == json.loads(text)
    wide = json.dumps([[[i, {"a": "[" * 300}]] for i in range(3_000)])
    assert parsed(wide) == json.loads(wide)


@pytest.mark.parametrize("body", [b"\xff\xfe[\x00]\x00", "[1]".encode("utf-16"), b"[\xc3]", b""])
def test_other_encodings_than_utf_8_are_refused(body):
    with pytest.raises(ValueError, match=r"."):
        parsed(body)


ENDED = """
import sys
sys.setrecursionlimit(100_000)  # as py_ecc does wherever a key is used
from lake.json_text import parsed
try:
    parsed(b"[" * 300_000)
except ValueError as error:
    print(error)
"""


def test_a_process_whose_libraries_raised_the_recursion_limit_is_not_ended_by_an_answer():
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "JSON nested deeper than 100 brackets")
