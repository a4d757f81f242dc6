"""One typed function for each endpoint of the Tinker API."""
