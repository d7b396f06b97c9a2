"""The parts of the suite. Each measures its figures with their floors."""
