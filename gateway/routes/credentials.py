"""Temporary keys: POST /credentials lets an owner put objects into the bucket without the gateway in between."""

from datetime import UTC, timedelta

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from gateway.http.openapi import DURATION_PARAMETER, OWNER_PARAMETERS, described
from gateway.http.problems import Problem
from gateway.http.schemas import CredentialsDocument
from gateway.receiving.form import pairs_of, writable_owner
from gateway.services.container import ServicesDep
from gateway.writing.replies import NO_STORE
from shared.contract.keys import incoming_prefix
from shared.settings import Settings

router = APIRouter(tags=["temporary keys"])


@router.post(
    "/credentials",
    **described(
        (201, "Keys that may put objects under `prefix`, and nothing else.", CredentialsDocument),
        problems=("bad_request", "invalid_owner", "reserved_owner", "duration_refused", "credentials_disabled"),
        parameters=[*OWNER_PARAMETERS, DURATION_PARAMETER],
    ),
)
async def issue_credentials(request: Request, services: ServicesDep) -> JSONResponse:
    """Get short-lived S3 keys for an owner. Put an object with them, then POST /images with its key as `incoming`."""
    if services.keys is None:
        raise Problem("credentials_disabled", "temporary keys are switched off")
    owner = writable_owner(pairs_of(request))
    if owner is None:
        raise Problem("invalid_owner", "name the owner who gets the keys")
    settings = services.settings
    keys = await services.keys.issue(owner, _duration(request, settings))
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


def _duration(request: Request, settings: Settings) -> timedelta:
    """The duration asked for, in seconds. Raises Problem."""
    asked = request.query_params.get("duration")
    if asked is None:
        return settings.credentials_duration
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 9):
        raise Problem("bad_request", "duration: a number of seconds")
    seconds, longest = int(asked), int(settings.credentials_max_duration.total_seconds())
    if not 60 <= seconds <= longest:
        raise Problem("duration_refused", f"duration: 60 to {longest} seconds")
    return timedelta(seconds=seconds)
