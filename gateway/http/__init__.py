"""The surface of the API: middleware, errors and problem documents, OpenAPI, the owner in a query."""
