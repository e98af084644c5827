"""Words of OpenTelemetry's conventions for generative AI, which metrics and traces share.

https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

PROVIDER = "inventiv"  # gen_ai.provider.name

_OPERATIONS = {"completions": "text_completion"}  # where the conventions have another word than ours


def operation_name(operation: str) -> str:
    return _OPERATIONS.get(operation, operation)


def error_type(*, status: int, error_code: str) -> str:
    """error.type; "" = it went well."""
    return error_code or (str(status) if status >= 400 else "")
