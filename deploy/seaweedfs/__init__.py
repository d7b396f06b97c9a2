"""SeaweedFS, the S3 server of the local stack and of compose: its configuration files and its command lines."""
