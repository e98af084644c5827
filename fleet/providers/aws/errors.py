"""What AWS answers, as the errors of the provider interface.

Decided by the error's code; the status only where the code says nothing (EC2 sends a stock-out as a 500 and a
throttle as a 503). Codes: "Error codes for the Amazon EC2 API", and botocore's service models for the other services.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from fleet.providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Conflict,
    InvalidSpec,
    NotFound,
    ProviderError,
    QuotaError,
    Throttled,
    Unavailable,
)


class TokenUsedOtherwise(AmbiguousOutcome):
    """The client token belongs to an earlier request with other parameters: that one made a server."""


class AlreadyThere(Conflict):
    """Somebody else has just made the same: where that is what was wanted, all is well."""


class DryRunSucceeded(ProviderError):
    """The request would have been carried out: what a dry run hopes for."""


@contextmanager
def translated(*, unclear: type[ProviderError] = Unavailable) -> Iterator[None]:
    """Raise what `boto3` raises as errors of the provider interface.

    `unclear` is what a time-out, a 5xx or an unreadable answer means: Unavailable for what changes nothing or may
    safely be repeated, AmbiguousOutcome for a create.
    """
    try:
        yield
    except ClientError as error:
        raise _of_an_answer(error, unclear) from error
    except ParamValidationError:
        # Its text quotes the parameters, and the user data is one of them.
        raise InvalidSpec("boto3 refuses the parameters of the request") from None
    except _NOTHING_WAS_SENT as error:
        raise Unavailable(f"no connection to AWS: {error}") from error
    except _NO_CREDENTIALS as error:
        raise AuthError(str(error)) from error
    except _UNREADABLE as error:
        raise unclear(f"no readable answer from AWS: {type(error).__name__}") from error


# The last two are what botocore's parsers raise at a document of another shape than the service's.
_UNREADABLE = (BotoCoreError, ResponseParserError, ValueError, KeyError)
_NOTHING_WAS_SENT = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    NoAuthTokenError,
)


def _of_an_answer(error: ClientError, unclear: type[ProviderError]) -> ProviderError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return _kind(code, status, unclear)(f"{error.operation_name}: {code}: {_message(error)}")


def _kind(code: str, status: int, unclear: type[ProviderError]) -> type[ProviderError]:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if not 400 <= status < 500 or code.isdigit():  # digits: no document of AWS, so not AWS's word
        return unclear
    if code.endswith(("NotFound", "NotFoundException")):
        return NotFound
    if code.endswith(".Duplicate"):
        return AlreadyThere
    return InvalidSpec  # a clear refusal of a kind that we have not met


def _message(error: ClientError) -> str:
    message = str(error.response.get("Error", {}).get("Message", ""))
    # The encoded message says nothing to a reader, and it is long.
    return re.sub(r"\s*Encoded authorization failure message:.*", "", message, flags=re.DOTALL)[:500]


_BY_CODE: dict[str, type[ProviderError]] = {
    "DryRunOperation": DryRunSucceeded,
    "IdempotentParameterMismatch": TokenUsedOtherwise,
    "IdempotentInstanceTerminated": InvalidSpec,
    **dict.fromkeys(
        (
            "InsufficientInstanceCapacity",
            "InsufficientCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientAddressCapacity",
            "InsufficientVolumeCapacity",
            "InsufficientFreeAddressesInSubnet",
            "UnfulfillableCapacity",
            "MaxSpotInstanceCountExceeded",
            "SpotMaxPriceTooLow",
            "Unsupported",  # this type is not sold in this zone
        ),
        CapacityError,
    ),
    **dict.fromkeys(
        (
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "VolumeLimitExceeded",
            "AddressLimitExceeded",
            "NetworkInterfaceLimitExceeded",
            "SecurityGroupLimitExceeded",
            "RulesPerSecurityGroupLimitExceeded",
        ),
        QuotaError,
    ),
    **dict.fromkeys(
        (
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "EC2ThrottledException",
            "TooManyRequestsException",
            "SlowDown",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "AuthFailure",
            "UnauthorizedOperation",
            "AccessDenied",
            "AccessDeniedException",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "RequestExpired",
            "ExpiredToken",
            "ExpiredTokenException",
            "OptInRequired",
            "Blocked",
            "PendingVerification",  # a new account, for up to two hours
        ),
        AuthError,
    ),
    **dict.fromkeys(
        (
            "IncorrectInstanceState",
            "IncorrectState",
            "DependencyViolation",
            "OperationNotPermitted",
            "VolumeInUse",
            # Made a moment ago, and not known everywhere yet.
            "InvalidGroup.NotFound",
        ),
        Conflict,
    ),
}
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthError,
    403: AuthError,
    409: Conflict,
    429: Throttled,
}
