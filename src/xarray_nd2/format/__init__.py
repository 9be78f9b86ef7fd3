"""The ND2 container: from its bytes to values. Pure: imports NumPy and the exceptions."""
