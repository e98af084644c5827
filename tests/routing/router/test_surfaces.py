"""The table of what is proxied."""

from __future__ import annotations

from routing.router.bodies.surfaces import BY_PATH


def test_every_path_has_an_operation_of_its_own() -> None:
    assert {path: surface.operation for path, surface in BY_PATH.items()} == {
        "/v1/chat/completions": "chat",
        "/v1/completions": "completions",
        "/v1/responses": "responses",
        "/v1/messages": "messages",
        "/v1/embeddings": "embeddings",
        "/v1/rerank": "rerank",
        "/v1/score": "score",
        "/v1/tokenize": "tokenize",
        "/v1/audio/transcriptions": "transcriptions",
    }


def test_only_tokenize_has_another_path_at_the_engine() -> None:
    moved = {
        surface.operation: surface.engine_path
        for surface in BY_PATH.values()
        if surface.path.encode() != surface.engine_path
    }

    assert moved == {"tokenize": b"/tokenize"}


def test_usage_is_asked_for_where_the_engine_knows_stream_options() -> None:
    assert {surface.operation for surface in BY_PATH.values() if surface.usage_on_demand} == {"chat", "completions"}


def test_only_the_transcription_of_audio_is_a_form() -> None:
    assert [surface.operation for surface in BY_PATH.values() if surface.form] == ["transcriptions"]
