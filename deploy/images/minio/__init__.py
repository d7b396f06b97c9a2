"""The S3 server of development: MinIO, and the services' own user in it."""
