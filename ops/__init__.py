"""The command `imagepipe` for operators."""
