"""The sub-commands of imagepipe, one module for each. A module has the name of its command."""
