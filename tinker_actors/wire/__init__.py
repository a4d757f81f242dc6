"""HTTP: one attempt for each request, its reply as a value or a typed error. Only here does h11 appear."""
