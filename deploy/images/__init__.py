"""Images that the compose file builds beside the services."""
