"""Entry point: `python -m gateway`."""

from gateway.service import serve
from shared.freed_memory import return_large_blocks
from shared.observability.metrics import Service
from shared.service import run_service

if __name__ == "__main__":
    return_large_blocks()
    run_service(Service.GATEWAY, serve)
