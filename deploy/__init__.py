"""How the system is run: the local stack, compose, CDN."""
