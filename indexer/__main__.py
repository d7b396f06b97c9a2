"""Entry point: `python -m indexer`."""

from indexer.service import serve
from shared.observability.metrics import Service
from shared.service import run_service

if __name__ == "__main__":
    run_service(Service.INDEXER, serve)
