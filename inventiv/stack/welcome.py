"""What a running stack tells its user: where it is, and two examples that work as printed."""

from __future__ import annotations

import sys

from django.conf import settings

_EXAMPLES = """
Ask it with curl:

curl -N {router}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
-d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

or with OpenAI's own client:

{python} - <<'EOF'
from openai import OpenAI

client = OpenAI(base_url="{router}/v1", api_key="{key}")
messages = [{{"role": "user", "content": "Hello!"}}]
for chunk in client.chat.completions.create(model="{model}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
EOF
"""


def api_url() -> str:
    return f"http://{_reachable(settings.API_HOST)}:{settings.API_PORT}"


def router_url() -> str:
    return f"http://{_reachable(settings.ROUTER_HOST)}:{settings.ROUTER_PORT}"


def addresses() -> str:
    return f"""
  Admin     {api_url()}/admin/
  Swagger   {api_url()}/swagger-ui
  Router    {router_url()}/v1
  API key   {settings.INVENTIV_HOME}/secrets/api_key
  Logs      {settings.INVENTIV_HOME}/log
"""


def examples(*, key: str, model: str) -> str:
    return _EXAMPLES.format(router=router_url(), key=key, model=model, python=sys.executable)


def _reachable(host: str) -> str:
    """Where a client on this machine finds what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - the opposite of binding
