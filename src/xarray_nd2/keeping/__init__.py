"""Whole frames that are kept for who reads them again: in memory, and on a disk of this machine."""
