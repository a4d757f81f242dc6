"""Bytes to values and back: protobuf for the hot messages, and digests of operations."""
