"""The fault suite: nothing acknowledged is lost, nothing happens twice visibly, and delete is final."""
