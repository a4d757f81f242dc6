"""Runs that their server or their process has lost, and how they go on."""
