"""The `imagepipe` command for those who run the system."""
