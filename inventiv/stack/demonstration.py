"""One model from the catalogue to a streamed answer, through the same REST and OpenAI APIs as anybody else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from inventiv.stack.display import Progress
from inventiv.stack.failure import StackFailed

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
QUESTION = "What does a control plane do?"
_RISING = ("PROVISIONING", "BOOTING")


class Demonstration:
    """A client of one running stack. Every method raises StackFailed with what the stack said."""

    def __init__(self, *, api_url: str, router_url: str, key: str, model: str = MODEL) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._api = httpx.Client(base_url=api_url, headers=headers, timeout=15)
        self._router = httpx.Client(base_url=router_url, headers=headers, timeout=30)
        self._model = model

    def close(self) -> None:
        self._api.close()
        self._router.close()

    def deploy(self, progress: Progress, *, patience: float) -> None:
        """Have the model on a ready machine within `patience` seconds, and show how it gets there."""
        instance_id = self._live_instance() or self._place(progress)
        self._follow(instance_id, progress, deadline=time.monotonic() + patience)

    def wait_until_routed(self, *, patience: float = 30) -> None:
        """Until the router knows the key and the model: the index follows the database within moments."""
        deadline = time.monotonic() + patience
        while True:
            with _heard():
                answer = self._router.get("/v1/models")
            if answer.is_success and self._model in {model["id"] for model in answer.json()["data"]}:
                return
            if time.monotonic() > deadline:
                raise StackFailed(f"the router does not know {self._model}: {answer.status_code} {answer.text[:200]}")
            time.sleep(0.2)

    def ask(self, question: str = QUESTION) -> Iterator[str]:
        """The answer's pieces, as they come."""
        body = {"model": self._model, "messages": [{"role": "user", "content": question}], "stream": True}
        with _heard(), self._router.stream("POST", "/v1/chat/completions", json=body) as answer:
            if not answer.is_success:
                raise StackFailed(f"the router answered {answer.status_code}: {answer.read().decode()[:300]}")
            for line in answer.iter_lines():
                yield from _piece(line)

    def _live_instance(self) -> str | None:
        found = self._get("/instances", model=self._model, status=[*_RISING, "READY"], ordering="created_at")
        return found["results"][0]["id"] if found["results"] else None

    def _place(self, progress: Progress) -> str:
        order = {"model": self._model, "limits": {"providers": ["mock"]}}
        with progress.step("plan") as step, _heard():
            answer = self._api.post("/deployments", json=order)
            if answer.status_code != 202:
                raise StackFailed(f"POST /deployments answered {answer.status_code}: {answer.text[:300]}")
            accepted = answer.json()
            offer = accepted["plan"]["chosen"]["offer"]
            price = f"{float(offer['price_per_hour']):.2f} {offer['currency']}/h"
            step.detail = f"{self._model} on {offer['instance_type']} in {offer['zone']} at {price}"
        return str(accepted["deployments"][0]["instance_id"])

    def _follow(self, instance_id: str, progress: Progress, *, deadline: float) -> None:
        instance = self._get(f"/instances/{instance_id}")
        while (status := instance["status"]) in _RISING:
            with progress.step(status) as step:
                while instance["status"] == status:
                    step.detail = instance["worker_detail"] or instance["status_reason"]
                    if time.monotonic() > deadline:
                        raise StackFailed(f"instance {instance_id} is still {status}: {step.detail}")
                    time.sleep(0.2)
                    instance = self._get(f"/instances/{instance_id}")
                step.detail = ""
        with progress.step(status) as step:
            step.detail = instance["status_reason"]
            if status != "READY":
                raise StackFailed(f"instance {instance_id} is {status}: {instance['status_reason']}")

    def _get(self, path: str, **query: Any) -> Any:
        with _heard():
            return self._api.get(path, params=query).raise_for_status().json()


@contextmanager
def _heard() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise StackFailed(str(error) or type(error).__name__) from error


def _piece(line: str) -> Iterator[str]:
    if not line.startswith("data: ") or line == "data: [DONE]":
        return
    event = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise StackFailed(f"the stream broke: {event['error'].get('message')}")
    for choice in event["choices"]:
        yield choice["delta"].get("content") or ""
