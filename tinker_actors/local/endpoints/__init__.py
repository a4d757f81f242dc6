"""What each endpoint does, one file a subject; ``table`` lists them all."""
