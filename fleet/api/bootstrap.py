"""Where a new machine's agent exchanges its one-time token. For our own machines only: not in the public spec."""

from __future__ import annotations

from dataclasses import asdict

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied, Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet.api.serializers import BootstrapSerializer
from fleet.lifecycle import registration
from fleet.lifecycle.world import real_world
from routing import addresses

_ASK_AGAIN_AFTER = 1  # seconds


@extend_schema(exclude=True)
class BootstrapView(APIView):
    """The token in the body is the credential, so a session or an API key means nothing here."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request) -> Response:
        body = BootstrapSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        try:
            trusted = registration.exchange(
                **body.validated_data, address=_sender(request), now=timezone.now(), world=real_world()
            )
        except registration.BootstrapRefused as refused:
            # Never why: whoever guesses must not learn how close they are.
            raise PermissionDenied("This token is not valid for this instance.", code="refused") from refused
        except registration.AddressNotConfirmed as early:
            # 429 and not 403, which is final for an agent: it may be quicker than our own look at its provider.
            raise Throttled(wait=_ASK_AGAIN_AFTER, detail="Ask again in a moment.") from early
        return Response(asdict(trusted), headers={"Cache-Control": "no-store"})


def _sender(request: Request) -> str:
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return addresses.of_client(
        request.META.get("REMOTE_ADDR", ""), forwarded=[forwarded], trusted=settings.API_TRUSTED_PROXIES
    )
