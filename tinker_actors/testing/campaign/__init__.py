"""Campaigns: many simulated runs, each with programs, faults and a schedule of its own, all checked against P1 to P6.

A seed is a case (``drawn_case``), a case is run (``run_case``), and the report is checked (``violations``).
"""
