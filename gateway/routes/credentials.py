"""Temporary keys: POST /credentials lets an owner put objects into the bucket without the gateway in between."""

from datetime import UTC, timedelta

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from gateway.container import ServicesDep
from gateway.http.cache_control import NO_STORE
from gateway.http.openapi import DURATION_PARAMETER, MIN_DURATION, OWNER_PARAMETERS, described
from gateway.http.owner_query import pairs_of, writable_owner
from gateway.http.problems import Problem
from gateway.http.schemas import CredentialsDocument
from shared.contract.keys import incoming_prefix

router = APIRouter(tags=["temporary keys"])


@router.post(
    "/credentials",
    **described(
        (201, "Keys whose only permission is to put objects under `prefix`.", CredentialsDocument),
        problems=("bad_request", "invalid_owner", "reserved_owner", "duration_refused", "credentials_disabled"),
        parameters=[*OWNER_PARAMETERS, DURATION_PARAMETER],
    ),
)
async def issue_credentials(request: Request, services: ServicesDep) -> JSONResponse:
    """Get short-lived S3 keys for an owner. Put an object with them, then POST /images with its key as `incoming`."""
    if services.keys is None:
        raise Problem("credentials_disabled", "temporary keys are disabled")
    owner = writable_owner(pairs_of(request))
    if owner is None:
        raise Problem("invalid_owner", "select the owner for whom the keys are")
    settings = services.settings
    duration = _duration(request, settings.credentials_duration, settings.credentials_max_duration)
    keys = await services.keys.issue(owner, duration)
    body = {
        "endpoint_url": settings.s3_public_endpoint_url or settings.s3_endpoint_url,
        "region": settings.s3_region,
        "bucket": settings.s3_bucket,
        "prefix": incoming_prefix(owner),
        "credentials": {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "session_token": keys.session_token,
            "expiration": keys.expiration.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        },
    }
    return JSONResponse(body, 201, NO_STORE)


def _duration(request: Request, default: timedelta, longest: timedelta) -> timedelta:
    """The duration that the client asks for, in seconds. Raises Problem."""
    text = request.query_params.get("duration")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Problem("bad_request", "duration must be a number of seconds")
    seconds, most = int(text), int(longest.total_seconds())
    if not MIN_DURATION <= seconds <= most:
        raise Problem("duration_refused", f"duration must be from {MIN_DURATION} to {most} seconds")
    return timedelta(seconds=seconds)
