"""S3: the adapter of the object store, and the set-up of the bucket."""
