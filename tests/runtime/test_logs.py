from __future__ import annotations

from controlplane.runtime.logs import _console_renderer


def test_console_renderer__an_error__tells_where_it_was_and_no_values() -> None:
    def fail(state: str) -> None:
        raise ValueError(len(state))

    try:
        fail("what somebody keeps")
    except ValueError as error:
        found = (type(error), error, error.__traceback__)

    said = str(_console_renderer()(None, "error", {"event": "state.failed", "level": "error", "exc_info": found}))

    assert "in fail" in said
    assert "what somebody keeps" not in said.replace('fail("what somebody keeps")', "")  # but in the line of the code
