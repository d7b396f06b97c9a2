"""HTTP details of the API: access log, problem documents, OpenAPI, cache headers, the owner selector."""
