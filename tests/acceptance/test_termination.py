"""The end of an instance, asked for while it works."""

from __future__ import annotations

from tests.acceptance.running_stack import MODEL, RunningStack, until


def test_it_lets_a_stream_end_whole_before_the_machine_goes(stack: RunningStack, served: str) -> None:
    tokens = 200
    with stack.openai() as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Take your time"}],
            stream=True,
            max_tokens=tokens,
            extra_body={"min_tokens": tokens, "ignore_eos": True},
        )
        chunks = [next(stream)]
        stack.terminate(served)
        stack.terminate(served)  # safe to repeat
        stack.until_status(served, "DRAINING", within=10)
        chunks += list(stream)
        seen_after = stack.instance(served)["status"]

    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) == tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert seen_after == "DRAINING"  # not a moment earlier
    terminated = stack.until_status(served, "TERMINATED")
    assert [move["to_status"] for move in terminated["transitions"]][-2:] == ["DRAINING", "TERMINATED"]
    assert stack.machines_of(served) == []


def test_it_sends_nothing_new_to_a_machine_that_drains(stack: RunningStack, served: str) -> None:
    stack.terminate(served)
    stack.until_status(served, "TERMINATED")

    until(lambda: not stack.answers(), within=5, what="nothing is routed")
