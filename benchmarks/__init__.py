"""Measurements of xarray-nd2, side by side with other ways to read the same pixels.

Run ``python -m benchmarks`` in a clone of the repository. Everything is written, served and measured
in one run on one machine, and each time is given as a ratio to another that was taken in turns with
it. Beside a number stands the floor that it should keep to, and whether it does.
"""
