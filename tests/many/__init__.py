"""Tests of many files that are opened as one image."""
