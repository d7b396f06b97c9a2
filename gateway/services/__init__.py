"""State that the requests of one gateway process share: admission, claims, caches, temporary keys."""
