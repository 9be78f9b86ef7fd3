"""The command ``doctor``: what matters for reading a file from here."""
