"""Reading, without any reading: selection, plan, cost and decoding. Pure: imports NumPy and isal."""
