"""Reports the state of the system to the public: engines, uploads and limits."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from gateway.container import ServicesDep
from gateway.http.cache_control import NO_STORE
from gateway.http.openapi import described
from gateway.http.schemas import SystemStatusDocument
from shared.contract.keys import EXTENSIONS

router = APIRouter(tags=["system"])


@router.get("/status", **described((200, "The state of the system.", SystemStatusDocument)))
@router.head("/status", include_in_schema=False)
async def status(services: ServicesDep) -> JSONResponse:
    """Which engines are available, how many uploads are in progress, and what an upload may have at most.

    The response names no hosts, versions or owners. It is that of one gateway; another one may see its engines
    differently.
    """
    settings, admission = services.settings, services.admission
    document: dict[str, Any] = {
        "engines": {
            name: {"available": state.available, "since": f"{state.since:%Y-%m-%dT%H:%M:%SZ}"}
            for name, state in services.availability.states.items()
        },
        "uploads": {"in_progress": admission.in_progress, "free": admission.free},
        "limits": {
            "content_types": sorted(EXTENSIONS),
            "file_bytes": settings.max_upload_bytes,
            "pixels": settings.max_pixels,
            "side": settings.max_side,
            "files_per_request": settings.max_files_per_request,
        },
        "variants": settings.ladder.names,
    }
    return JSONResponse(document, headers=NO_STORE)
