"""What a running gateway holds: caches, claims, admission, temporary keys, and the container of all of it."""
