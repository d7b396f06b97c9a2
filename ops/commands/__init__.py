"""One module for each sub-command of imagepipe, named as the operator types it."""
