"""HTTP: one attempt for each request, its reply as a value or a typed error. httpx and h11 appear here only."""
