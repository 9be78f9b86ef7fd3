"""What a file says of itself, in the words of the Open Microscopy Environment."""
