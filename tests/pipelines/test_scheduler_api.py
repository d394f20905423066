"""Patience with a busy scheduler: what is asked again, and what is told as it is."""

from __future__ import annotations

import httpx
import pytest

from pipelines.servers.scheduler_api import patiently

NOW = (0.0, 0.0, 0.0)


def asked(*answers: int | Exception):
    """A question with ``answers`` in this order, and how often it was put."""
    left, count = list(answers), []

    def ask() -> httpx.Response:
        count.append(1)
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return httpx.Response(one)

    return ask, count


@pytest.mark.parametrize(
    ("answers", "code", "times"),
    [
        ((200,), 200, 1),
        ((404,), 404, 1),  # an answer is an answer
        ((500,), 500, 1),
        ((503, 201), 201, 2),
        ((httpx.ReadTimeout("late"), 503, 200), 200, 3),
        ((503, 503, 503, 503), 503, 4),  # patience ends
    ],
)
def test_a_busy_scheduler_is_asked_again_and_any_other_answer_is_taken(answers, code, times):
    ask, count = asked(*answers)
    assert patiently(ask, NOW).status_code == code
    assert len(count) == times


def test_a_scheduler_that_is_not_there_or_stays_late_is_told_at_once():
    ask, count = asked(httpx.ConnectError("no"))
    with pytest.raises(httpx.ConnectError):
        patiently(ask, NOW)
    assert len(count) == 1
    with pytest.raises(httpx.ReadTimeout):
        patiently(asked(*(httpx.ReadTimeout("late") for _ in range(4)))[0], NOW)
