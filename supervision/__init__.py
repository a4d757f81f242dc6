"""Actors and supervisors on trio."""
